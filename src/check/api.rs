//! The Viva Insights API: a token for it, and whether it is let in.

use super::{Finding, State};
use crate::keys::viva_api::VivaApi;

/// Asks for a token and knocks.
pub(super) async fn lets_us_in(api: &VivaApi) -> Vec<Finding> {
    let token = match api.try_token().await {
        Ok(true) => Finding::well("token", format!("asked for a token for {api}: got one")),
        Ok(false) => Finding::well("token", format!("none is needed for {api}, which is on loopback")),
        Err(error) => {
            let refused = Finding::of_key("token", &format!("asked for a token for {api}"), &error);
            let text = format!("{api} was not asked: there is no token to ask with");
            return vec![refused, Finding::new(State::Skipped, "api", text)];
        }
    };
    let tried = "asked it for the keys of no drop";
    let knocked = match api.knock().await {
        Ok(()) => Finding::well("api", format!("{tried}: {api} refuses that as documented, and lets us in")),
        Err(error) => Finding::of_key("api", tried, &error),
    };
    vec![token, knocked]
}
