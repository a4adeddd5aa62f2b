//! Formats an error together with its causes.

/// The message of `error` and of each of its sources, outermost first, separated by `: `.
///
/// Errors of vivadrop print only their own layer and expose their cause through `source()`; logs and answers print the
/// whole chain.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
