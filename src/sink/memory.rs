//! Messages kept in memory, and faults on purpose: the sinks of tests.
//!
//! [`Memory`] keeps what it is given. [`Faulty`] is a sink around a sink that fails as it is told, so that one mechanism
//! makes any sink fail.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{
    message::{Message, MessageId},
    sink::{Sink, SinkError},
};

/// Keeps every message it is given.
#[derive(Default)]
pub struct Memory {
    messages: Mutex<Vec<Message>>,
}

impl Memory {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What came, in order of arrival, doubles included.
    pub fn messages(&self) -> Vec<Message> {
        locked(&self.messages).clone()
    }

    /// What came, doubles dropped by id: what a receiver that does as it should has.
    pub fn distinct(&self) -> Vec<Message> {
        let mut seen = std::collections::HashSet::new();
        let mut messages = self.messages();
        messages.retain(|message| seen.insert(message.id.clone()));
        messages
    }
}

#[async_trait]
impl Sink for Memory {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        locked(&self.messages).push(message.clone());
        Ok(())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} messages)", locked(&self.messages).len())
    }
}

/// What becomes of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes through.
    Through,
    /// It goes through after this time.
    Late(Duration),
    /// It is refused.
    Refused,
    /// The receiver is not there.
    Unavailable,
    /// It goes through, but its answer is lost: the same message will come again.
    AnswerLost,
}

/// How often what goes wrong, each between 0 and 1; together no more than 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// The receiver is not there.
    pub unavailable: f64,
    /// The answer is lost.
    pub answer_lost: f64,
    /// The message is refused.
    pub refused: f64,
    /// The message comes late, by up to [`Faults::latest`].
    pub late: f64,
    /// How late at most.
    pub latest: Duration,
}

type Plan = dyn Fn(&Message, u32) -> Fate + Send + Sync;

/// A sink around a sink that fails as it is told.
pub struct Faulty<S> {
    inner: S,
    plan: Box<Plan>,
    came: Mutex<HashMap<MessageId, u32>>,
}

impl<S: Sink> Faulty<S> {
    /// Fails as `plan` says, which is given the message and how often it has come, from 1.
    pub fn by(inner: S, plan: impl Fn(&Message, u32) -> Fate + Send + Sync + 'static) -> Self {
        Self { inner, plan: Box::new(plan), came: Mutex::default() }
    }

    /// Gives deliveries these fates in turn, whichever messages they are; what comes after goes through.
    pub fn script(inner: S, fates: impl IntoIterator<Item = Fate>) -> Self {
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.reverse();
        let fates = Mutex::new(fates);
        Self::by(inner, move |_, _| locked(&fates).pop().unwrap_or(Fate::Through))
    }

    /// Fails by chance. What becomes of a message depends on the seed, its id and how often it has come alone: the
    /// same in every run, in whatever order deliveries are made.
    pub fn seeded(inner: S, seed: u64, faults: Faults) -> Self {
        Self::by(inner, move |message, came| {
            let mut hash = DefaultHasher::new();
            (seed, &message.id, came).hash(&mut hash);
            faults.draw(&mut fastrand::Rng::with_seed(hash.finish()))
        })
    }

    /// The sink inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn fate(&self, message: &Message) -> Fate {
        let mut came = locked(&self.came);
        let times = came.entry(message.id.clone()).or_default();
        *times += 1;
        (self.plan)(message, *times)
    }
}

impl Faults {
    fn draw(&self, chance: &mut fastrand::Rng) -> Fate {
        let mut left = chance.f64();
        let mut falls_in = |share: f64| {
            let falls = (0.0..share).contains(&left);
            left -= share;
            falls
        };
        if falls_in(self.unavailable) {
            Fate::Unavailable
        } else if falls_in(self.answer_lost) {
            Fate::AnswerLost
        } else if falls_in(self.refused) {
            Fate::Refused
        } else if falls_in(self.late) {
            Fate::Late(self.latest.mul_f64(chance.f64()))
        } else {
            Fate::Through
        }
    }
}

#[async_trait]
impl<S: Sink> Sink for Faulty<S> {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let unavailable =
            |answer: &str| SinkError::Unavailable { id: message.id.to_string(), tries: 1, answer: answer.into() };
        match self.fate(message) {
            Fate::Through => self.inner.deliver(message).await,
            Fate::Late(time) => {
                sleep(time).await;
                self.inner.deliver(message).await
            }
            Fate::Refused => {
                Err(SinkError::Rejected { id: message.id.to_string(), answer: "refused on purpose".into() })
            }
            Fate::Unavailable => Err(unavailable("down on purpose")),
            Fate::AnswerLost => {
                self.inner.deliver(message).await?;
                Err(unavailable("answer lost on purpose"))
            }
        }
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        self.inner.largest_message()
    }
}

impl<S: fmt::Debug> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::DropFacts;

    fn message(rows: u64) -> Message {
        let drop = DropFacts {
            id: None,
            tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
            path: format!("datasets/{rows}"),
            table: None,
            request_start_date: None,
            request_end_date: None,
            generation: 0,
        };
        Message::completed(&drop, &[], rows, 0)
    }

    const HALF: Faults =
        Faults { unavailable: 0.2, answer_lost: 0.1, refused: 0.1, late: 0.1, latest: Duration::from_secs(60) };

    /// The fates of 200 messages, in or against their order.
    fn fates(seed: u64, backwards: bool) -> Vec<Fate> {
        let sink = Faulty::seeded(Memory::new(), seed, HALF);
        let mut messages: Vec<_> = (0..200).map(message).collect();
        if backwards {
            messages.reverse();
        }
        let mut fates: Vec<_> = messages.iter().map(|message| sink.fate(message)).collect();
        if backwards {
            fates.reverse();
        }
        fates
    }

    #[test]
    fn a_seed_gives_each_message_one_fate_in_whatever_order_they_come() {
        assert_eq!(fates(1, false), fates(1, true));
        assert_ne!(fates(1, false), fates(2, false));
    }

    #[test]
    fn what_goes_wrong_goes_wrong_about_as_often_as_asked() {
        let fates = fates(1, false);
        let count = |fits: fn(&Fate) -> bool| fates.iter().filter(|fate| fits(fate)).count();
        assert!((20..60).contains(&count(|fate| *fate == Fate::Unavailable)));
        assert!((70..130).contains(&count(|fate| *fate == Fate::Through)));
        assert!(count(|fate| matches!(fate, Fate::Late(_))) > 5);
        assert!(count(|fate| *fate == Fate::Refused) > 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_followed_and_then_all_goes_through() {
        let late = Fate::Late(Duration::from_secs(60));
        let script = [Fate::Unavailable, Fate::AnswerLost, Fate::Refused, late];
        let sink = Faulty::script(Memory::new(), script);
        let message = message(0);

        assert!(matches!(sink.deliver(&message).await, Err(SinkError::Unavailable { .. })));
        assert_eq!(sink.inner().messages().len(), 0);
        assert!(matches!(sink.deliver(&message).await, Err(SinkError::Unavailable { .. })));
        assert_eq!(sink.inner().messages().len(), 1);
        assert!(matches!(sink.deliver(&message).await, Err(SinkError::Rejected { .. })));
        assert_eq!(sink.inner().messages().len(), 1);
        for _ in 0..2 {
            sink.deliver(&message).await.unwrap();
        }
        assert_eq!(sink.inner().messages().len(), 3);
        assert_eq!(sink.inner().distinct(), [message]);
    }
}
