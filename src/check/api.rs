//! Tests access to the Viva Insights API: whether there is a token for it, and whether it accepts the token.

use super::{Finding, Severity};
use crate::keys::viva_api::VivaApi;

/// The finding for a local set-up that has no credentials for the API.
pub(super) fn is_not_needed(api: &VivaApi) -> Finding {
    let text = format!(
        "{api} was not tested: PRIVATE_KEYS is a folder and PARTNER_APP_SECRET is not set; drops that contain their keys do not \
         need it"
    );
    Finding::new(Severity::Skipped, "api", text)
}

/// Requests a token, and then sends a dummy request with it.
pub(super) async fn grants_access(api: &VivaApi) -> Vec<Finding> {
    let token = match api.try_token().await {
        Ok(true) => Finding::ok("token", format!("requested a token for {api}: received one")),
        Ok(false) => Finding::ok("token", format!("{api} is on loopback and needs no token")),
        Err(error) => {
            let no_token = Finding::of_key_error("token", &format!("requested a token for {api}"), &error);
            let text = format!("{api} was not probed, because there is no token");
            return vec![no_token, Finding::new(Severity::Skipped, "api", text)];
        }
    };
    let test = "probed the API with a dummy request";
    let probe = match api.probe().await {
        Ok(()) => Finding::ok("api", format!("{test}: {api} grants access, and rejects the request as documented")),
        Err(error) => Finding::of_key_error("api", test, &error),
    };
    vec![token, probe]
}
