//! The contracts of the seams, as code: each test is written once and run against every keeper.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

/// Each of these tests, over a folder, in memory and over Azurite.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::Keeper::local()).await;
            })*
        }

        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::store::Keeper::memory()).await;
            })*
        }

        mod azure {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::Keeper::azure()).await;
            })*
        }
    };
}

#[path = "contract/account.rs"]
mod account;
#[path = "contract/lease.rs"]
mod lease;
#[path = "contract/ledger.rs"]
mod ledger;
#[path = "contract/store.rs"]
mod store;
