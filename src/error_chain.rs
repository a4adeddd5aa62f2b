//! Formats an error together with its causes.

/// The message of `error` and of each of its sources, outermost first, separated by `: `.
///
/// Our errors print only their own layer and expose their cause through `source()`; logs and answers print the whole chain.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
