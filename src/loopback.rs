//! Decides whether a URL stays on this machine. Plain `http://` is allowed only there.

use url::{Host, Url};

/// Whether the host of `url` is a loopback address (127.0.0.0/8 or `::1`) or exactly `localhost`.
///
/// Secrets and rows may be sent over plain `http://` there, because no other machine can read them. No other name is
/// accepted, even if it resolves to a loopback address, because name resolution can change.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_localhost_are_on_this_machine() {
        for (url, expected) in [
            ("http://127.0.0.1:7071/", true),
            ("http://127.8.9.10/", true),
            ("http://[::1]:80/", true),
            ("http://LOCALHOST/", true),
            ("http://localhost./", false),
            ("http://localhost.example/", false),
            ("http://app.localhost/", false),
            ("http://10.0.0.1/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("file:///tmp", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
