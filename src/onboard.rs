//! Onboarding a customer: a key of their own, registered with the Viva Insights API, and a container to drop into.

pub mod expiry;
pub mod record;
