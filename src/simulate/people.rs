//! Invented people and their weeks: who they are, and how many hours go where.
//!
//! Everything about a person follows from the seed and the person's number, and everything about a week from those and
//! the week's number. So no person is remembered, and rows can be made from any row on.

use fastrand::Rng;
use uuid::{Builder, Uuid};

/// How many figures a week has.
pub(super) const FIGURES: usize = 18;

/// The hours of a week, in the order of the columns.
pub(super) type Hours = [f64; FIGURES];

/// Somebody with a license.
pub(super) struct Person {
    /// The Object ID in the directory.
    pub(super) object_id: Uuid,
    /// The id in the history of Viva Insights.
    pub(super) historical_id: Uuid,
    /// How much of the weeks the person is at work: most of them nearly always, a few never.
    presence: f64,
    /// How much there is to do; 1 is typical.
    load: f64,
    /// How much of the load is meetings; 1 is typical.
    meetings: f64,
    /// Which part of the work is done after hours.
    evenings: f64,
    /// Which part of the work is done with people outside.
    outside: f64,
}

impl Person {
    /// The person with this number.
    pub(super) fn of(seed: u64, number: u64) -> Self {
        let rng = &mut Rng::with_seed(mixed(seed, number));
        Self {
            object_id: guid(rng),
            historical_id: guid(rng),
            presence: if rng.u8(..) < 4 { 0.0 } else { 0.97 },
            load: around(rng, 1.0, 0.45),
            meetings: around(rng, 1.0, 0.4),
            evenings: around(rng, 0.15, 0.8),
            outside: around(rng, 0.2, 0.8),
        }
    }

    /// Whether the person is at work in a week, and the hours of it: nothing but zeros when not.
    pub(super) fn week(&self, seed: u64, number: u64, week: u32) -> (bool, Hours) {
        let rng = &mut Rng::with_seed(mixed(mixed(seed, number), u64::from(week) + 1));
        if rng.f64() < self.presence { (true, self.hours(rng)) } else { (false, [0.0; FIGURES]) }
    }

    fn hours(&self, rng: &mut Rng) -> Hours {
        let load = around(rng, self.load, 0.25).min(3.0);
        let emails = around(rng, 4.8 * load, 0.4).min(30.0);
        let chats = around(rng, 1.8 * load, 0.5).min(15.0);
        let meetings = minutes(around(rng, 9.5 * load * self.meetings, 0.35).min(50.0));
        let scheduled = minutes(meetings * within(rng, 0.1, 1.0));
        let adhoc = sometimes(rng, 0.95, |rng| minutes(around(rng, 1.3 * load, 0.8).min(15.0)));
        // Somebody writes in a meeting: that time is counted once.
        let total = (emails + chats + meetings + adhoc) * within(rng, 0.85, 1.0);

        let evening = |rng: &mut Rng| around(rng, self.evenings, 0.4).min(0.6);
        let late_emails = emails * evening(rng);
        let late_chats = chats * evening(rng);
        let late_meetings = sometimes(rng, 0.92, |rng| minutes(meetings * evening(rng)));
        let late_scheduled = minutes(late_meetings * within(rng, 0.1, 1.0));
        let late_adhoc = sometimes(rng, 0.9, |rng| minutes(adhoc * evening(rng)));
        let late_total = (late_emails + late_chats + late_meetings + late_adhoc) * within(rng, 0.9, 1.0);

        let external = total * around(rng, self.outside, 0.4).min(0.95);
        let conflicting = sometimes(rng, 0.95, |rng| minutes(meetings * within(rng, 0.02, 0.4)));
        let manager = sometimes(rng, 0.95, |rng| minutes(meetings * within(rng, 0.05, 0.5)));
        let one_on_one = sometimes(rng, 0.9, |rng| minutes(manager * within(rng, 0.1, 0.6)));
        let skip_level = sometimes(rng, 0.85, |rng| minutes(meetings * within(rng, 0.02, 0.2)));
        let focus = minutes(within(rng, 28.0, 42.0) * (-total / 30.0).exp());
        [
            late_total,
            late_emails,
            late_chats,
            late_meetings,
            late_scheduled,
            late_adhoc,
            total,
            emails,
            external,
            chats,
            meetings,
            scheduled,
            adhoc,
            conflicting,
            manager,
            one_on_one,
            skip_level,
            focus,
        ]
    }
}

/// Spreads numbers that are next to each other (the last step of SplitMix64), so that neighbours have nothing in common.
fn mixed(seed: u64, number: u64) -> u64 {
    let mut bits = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn guid(rng: &mut Rng) -> Uuid {
    Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid()
}

/// A number about `typical`, rarely several times as much: hours of work are spread like that (log-normal, more or less).
fn around(rng: &mut Rng, typical: f64, spread: f64) -> f64 {
    let bell = rng.f64() + rng.f64() + rng.f64() + rng.f64() - 2.0;
    typical * (bell * spread * 1.73).exp()
}

fn within(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

/// Something that happens in some weeks only.
fn sometimes(rng: &mut Rng, chance: f64, hours: impl FnOnce(&mut Rng) -> f64) -> f64 {
    if rng.f64() < chance { hours(rng) } else { 0.0 }
}

/// Calendars know whole minutes.
fn minutes(hours: f64) -> f64 {
    (hours * 60.0).round() / 60.0
}
