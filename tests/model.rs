//! A model of claims, checkpoints and completion, with a crash at every step.
//!
//! The model is the protocol of `run.rs` and of the ledger without anything that can be told from outside: instances that
//! take events, lease files, send rows, checkpoint now and then, and end the drop. Every schedule is walked
//! through. What must hold: `drop.completed` is never sent before
//! every row was taken, and when nothing is left to happen, every row was taken and the drop was completed.

use stateright::{Checker, Model, Property};

const FILES: usize = 2;
const ROWS: u8 = 2;
const INSTANCES: usize = 2;
const EVENTS: usize = FILES + 1;
/// The event of the job metadata; the others are the files', by their number.
const METADATA: usize = FILES;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Which blobs are there; the last is the job metadata.
    there: [bool; EVENTS],
    events: [Event; EVENTS],
    files: [File; FILES],
    instances: [Instance; INSTANCES],
    completed: bool,
    crashes_left: u8,
    lapses_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    None,
    Queued,
    Taken,
    Answered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct File {
    /// The ledger's record.
    next_row: u8,
    is_done: bool,
    lease: Option<Lease>,
    /// What the receiver has, a bit a row.
    taken: u8,
}

/// Who holds a file: an instance in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    instance: usize,
    life: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Instance {
    life: u8,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    /// Going through the files that were listed; those that another held are looked at again at the end.
    Choosing {
        event: usize,
        listed: [bool; FILES],
        held: [bool; FILES],
        file: usize,
        is_last_look: bool,
    },
    /// Rows up to `row` of `file` were sent.
    Sending {
        event: usize,
        listed: [bool; FILES],
        held: [bool; FILES],
        file: usize,
        is_last_look: bool,
        row: u8,
    },
    /// Everything was worked on: what is there is listed anew.
    Listing {
        event: usize,
    },
    /// The records of the files that were listed are read.
    Reading {
        event: usize,
        listed: [bool; FILES],
    },
    /// All rows are in.
    Announcing {
        event: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// A blob arrives, and its event with it.
    Arrive(usize),
    /// An instance takes an event.
    Take(usize, usize),
    Step(usize),
    /// The rows sent so far are recorded.
    Checkpoint(usize),
    /// The process is killed, and comes up again.
    Crash(usize),
    /// The lease of a file lapses.
    Lapse(usize),
}

/// The protocol, and what may go wrong in one schedule.
struct Protocol {
    crashes: u8,
    /// Leases that lapse under a worker that lives on.
    lapses: u8,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            there: [false; EVENTS],
            events: [Event::None; EVENTS],
            files: [File::default(); FILES],
            instances: [Instance { life: 0, doing: Doing::Nothing }; INSTANCES],
            completed: false,
            crashes_left: self.crashes,
            lapses_left: self.lapses,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..EVENTS).filter(|&blob| !state.there[blob]).map(Action::Arrive));
        for (number, instance) in state.instances.iter().enumerate() {
            match instance.doing {
                Doing::Nothing => {
                    let queued = (0..EVENTS).filter(|&event| state.events[event] == Event::Queued);
                    actions.extend(queued.map(|event| Action::Take(number, event)));
                }
                _ => {
                    if state.can_step(number) {
                        actions.push(Action::Step(number));
                    }
                    if matches!(instance.doing, Doing::Sending { .. }) {
                        actions.push(Action::Checkpoint(number));
                    }
                    if state.crashes_left > 0 {
                        actions.push(Action::Crash(number));
                    }
                }
            }
        }
        for (number, file) in state.files.iter().enumerate() {
            let Some(lease) = file.lease else { continue };
            if !state.is_alive(lease) || state.lapses_left > 0 {
                actions.push(Action::Lapse(number));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Arrive(blob) => (next.there[blob], next.events[blob]) = (true, Event::Queued),
            Action::Take(instance, event) => next.take(instance, event),
            Action::Step(instance) => next.step(instance),
            Action::Checkpoint(instance) => next.checkpoint(instance),
            Action::Crash(instance) => next.crash(instance),
            Action::Lapse(file) => {
                if next.files[file].lease.is_some_and(|lease| next.is_alive(lease)) {
                    next.lapses_left -= 1;
                }
                next.files[file].lease = None;
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("drop.completed comes after every row was taken", |_, state: &State| {
                !state.completed || state.all_rows_are_taken()
            }),
            Property::always("a checkpoint never passes a row that was not taken", |_, state: &State| {
                state.files.iter().all(|file| (0..file.next_row).all(|row| file.taken & (1 << row) != 0))
            }),
            Property::always("when nothing is left to happen, the drop is complete", |protocol, state: &State| {
                let mut actions = Vec::new();
                protocol.actions(state, &mut actions);
                !actions.is_empty() || (state.completed && state.all_rows_are_taken())
            }),
            Property::sometimes("a row is sent twice", |_, state: &State| {
                state.files.iter().any(|file| file.taken != 0 && file.next_row == 0 && file.lease.is_none())
            }),
        ]
    }
}

impl State {
    fn is_alive(&self, lease: Lease) -> bool {
        let instance = &self.instances[lease.instance];
        instance.life == lease.life && instance.doing != Doing::Nothing
    }

    fn all_rows_are_taken(&self) -> bool {
        self.files.iter().all(|file| file.taken == (1 << ROWS) - 1)
    }

    fn take(&mut self, instance: usize, event: usize) {
        if !self.there[METADATA] {
            // Not a drop yet: the metadata's own event brings the file in.
            self.events[event] = Event::Answered;
            return;
        }
        self.events[event] = Event::Taken;
        let mut listed = [false; FILES];
        listed.copy_from_slice(&self.there[..FILES]);
        self.instances[instance].doing =
            Doing::Choosing { event, listed, held: [false; FILES], file: 0, is_last_look: false };
    }

    /// Whether the instance can go on: at its last look it waits while a file is held by somebody who is not alive.
    fn can_step(&self, number: usize) -> bool {
        match self.instances[number].doing {
            Doing::Choosing { listed, held, file, is_last_look: true, .. } if file < FILES => {
                let is_of_the_dead = self.files[file].lease.is_some_and(|lease| !self.is_alive(lease));
                !(listed[file] && held[file] && !self.files[file].is_done && is_of_the_dead)
            }
            _ => true,
        }
    }

    fn step(&mut self, number: usize) {
        let me = Lease { instance: number, life: self.instances[number].life };
        let doing = match self.instances[number].doing {
            Doing::Nothing => Doing::Nothing,
            Doing::Choosing { event, file: FILES, is_last_look: true, .. } => Doing::Listing { event },
            Doing::Choosing { event, listed, held, file: FILES, is_last_look: false } => {
                Doing::Choosing { event, listed, held, file: 0, is_last_look: true }
            }
            Doing::Choosing { event, listed, mut held, file, is_last_look } => {
                let is_mine_to_do = listed[file] && !self.files[file].is_done && (!is_last_look || held[file]);
                match self.files[file].lease {
                    None if is_mine_to_do => {
                        self.files[file].lease = Some(me);
                        let row = self.files[file].next_row;
                        Doing::Sending { event, listed, held, file, is_last_look, row }
                    }
                    lease => {
                        held[file] |= is_mine_to_do && lease.is_some();
                        Doing::Choosing { event, listed, held, file: file + 1, is_last_look }
                    }
                }
            }
            Doing::Sending { event, listed, held, file, is_last_look, row } if row < ROWS => {
                self.files[file].taken |= 1 << row;
                Doing::Sending { event, listed, held, file, is_last_look, row: row + 1 }
            }
            Doing::Sending { event, listed, held, file, is_last_look, .. } => {
                if self.files[file].lease == Some(me) {
                    self.files[file] = File { next_row: ROWS, is_done: true, lease: None, ..self.files[file] };
                    Doing::Choosing { event, listed, held, file: file + 1, is_last_look }
                } else {
                    self.try_again(event)
                }
            }
            Doing::Listing { event } => {
                let mut listed = [false; FILES];
                listed.copy_from_slice(&self.there[..FILES]);
                Doing::Reading { event, listed }
            }
            Doing::Reading { event, listed } => {
                let rows: u8 = (0..FILES).filter(|&file| listed[file]).map(|file| self.files[file].next_row).sum();
                let is_all_done = (0..FILES).all(|file| !listed[file] || self.files[file].is_done);
                if is_all_done && rows == ROWS * FILES as u8 { Doing::Announcing { event } } else { self.answer(event) }
            }
            Doing::Announcing { event } => {
                self.completed = true;
                self.answer(event)
            }
        };
        self.instances[number].doing = doing;
    }

    fn checkpoint(&mut self, number: usize) {
        let Instance { life, doing } = self.instances[number];
        let Doing::Sending { event, file, row, .. } = doing else { return };
        if self.files[file].lease == Some(Lease { instance: number, life }) {
            self.files[file].next_row = row;
        } else {
            // Another works on the file by now: this run stops, and its event is repeated.
            self.instances[number].doing = self.try_again(event);
        }
    }

    fn answer(&mut self, event: usize) -> Doing {
        self.events[event] = Event::Answered;
        Doing::Nothing
    }

    fn try_again(&mut self, event: usize) -> Doing {
        self.events[event] = Event::Queued;
        Doing::Nothing
    }

    fn crash(&mut self, number: usize) {
        self.crashes_left -= 1;
        let event = match self.instances[number].doing {
            Doing::Nothing => None,
            Doing::Choosing { event, .. }
            | Doing::Sending { event, .. }
            | Doing::Listing { event }
            | Doing::Reading { event, .. }
            | Doing::Announcing { event } => Some(event),
        };
        if let Some(event) = event {
            self.events[event] = Event::Queued;
        }
        self.instances[number] = Instance { life: self.instances[number].life + 1, doing: Doing::Nothing };
    }
}

fn check(protocol: Protocol) {
    let checker = protocol.checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000_000, "the model is smaller than it should be");
}

#[test]
fn no_schedule_with_two_crashes_loses_a_row_or_completes_a_drop_early() {
    check(Protocol { crashes: 2, lapses: 0 });
}

#[test]
fn a_worker_that_outlives_its_lease_does_no_harm() {
    check(Protocol { crashes: 1, lapses: 1 });
}
