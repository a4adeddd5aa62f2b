//! The contracts of the traits as code: each test is written once and runs against every implementation of
//! [`vivadrop::store::Store`].

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

/// Runs each of these tests against a folder, against memory and against Azurite.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::StoreFixture::local()).await;
            })*
        }

        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::store::StoreFixture::memory()).await;
            })*
        }

        mod azure {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::StoreFixture::azure()).await;
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
