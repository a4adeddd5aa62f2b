//! Simulated people, and the metrics of their weeks.
//!
//! A person is a function of the seed and the person's number; a week is a function of these and the week's number. So
//! nothing is stored, and rows can be generated from any row on, in any order.

use fastrand::Rng;
use uuid::{Builder, Uuid};

/// The metric columns, in the order of [`Hours`].
pub(super) const METRICS: [&str; 18] = [
    "AfterHoursCollaboration",
    "AfterHoursCollaborationEmails",
    "AfterHoursCollaborationInstantMessages",
    "AfterHoursCollaborationMeetings",
    "AfterHoursCollaborationScheduledCalls",
    "AfterHoursCollaborationAdhocCalls",
    "CollaborationHours",
    "CollaborationHoursEmails",
    "CollaborationHoursExternal",
    "CollaborationHoursInstantMessages",
    "CollaborationHoursMeetings",
    "CollaborationHoursScheduledCalls",
    "CollaborationHoursAdhocCalls",
    "ConflictingMeetingHours",
    "DirectManagerMeetingHours",
    "OneOnOneMeetingHours",
    "SkipLevelMeetingHours",
    "TotalFocusHours",
];

/// The hours of one week, in the order of [`METRICS`].
pub(super) type Hours = [f64; METRICS.len()];

/// A person with a Viva Insights license.
pub(super) struct Person {
    /// The object id in the directory.
    pub(super) object_id: Uuid,
    /// `PeopleHistoricalId`.
    pub(super) historical_id: Uuid,
    /// The probability that the person works in a week: 0 for a few people, and near 1 for the others.
    presence: f64,
    /// The amount of work; 1 is typical.
    load: f64,
    /// The share of meetings in the work; 1 is typical.
    meetings: f64,
    /// The fraction of the work that is done after hours.
    evenings: f64,
    /// The fraction of the work that is done with people outside the company.
    outside: f64,
}

impl Person {
    /// The person with this number.
    pub(super) fn of(seed: u64, number: u64) -> Self {
        let rng = &mut Rng::with_seed(mix(seed, number));
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

    /// Whether the person works in a week, and the hours of that week: all zero if not.
    pub(super) fn week(&self, seed: u64, number: u64, week: u32) -> (bool, Hours) {
        let rng = &mut Rng::with_seed(mix(mix(seed, number), u64::from(week) + 1));
        if rng.f64() < self.presence { (true, self.hours(rng)) } else { (false, [0.0; METRICS.len()]) }
    }

    fn hours(&self, rng: &mut Rng) -> Hours {
        let load = around(rng, self.load, 0.25).min(3.0);
        let emails = around(rng, 4.8 * load, 0.4).min(30.0);
        let chats = around(rng, 1.8 * load, 0.5).min(15.0);
        let meetings = minutes(around(rng, 9.5 * load * self.meetings, 0.35).min(50.0));
        let scheduled = minutes(meetings * within(rng, 0.1, 1.0));
        let adhoc = sometimes(rng, 0.95, |rng| minutes(around(rng, 1.3 * load, 0.8).min(15.0)));
        // The total is less than the sum, because time spent writing in a meeting counts once.
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

/// Combines seed and number with the last step of SplitMix64, so that adjacent numbers give unrelated results.
fn mix(seed: u64, number: u64) -> u64 {
    let mut bits = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn guid(rng: &mut Rng) -> Uuid {
    Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid()
}

/// A random number with median `typical` and an approximately log-normal distribution, as hours of work have.
fn around(rng: &mut Rng, typical: f64, spread: f64) -> f64 {
    let bell = rng.f64() + rng.f64() + rng.f64() + rng.f64() - 2.0;
    typical * (bell * spread * 1.73).exp()
}

/// A random number with a uniform distribution.
fn within(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

/// `hours` with probability `chance`, otherwise 0.
fn sometimes(rng: &mut Rng, chance: f64, hours: impl FnOnce(&mut Rng) -> f64) -> f64 {
    if rng.f64() < chance { hours(rng) } else { 0.0 }
}

/// Rounds to whole minutes, as calendars do.
fn minutes(hours: f64) -> f64 {
    (hours * 60.0).round() / 60.0
}
