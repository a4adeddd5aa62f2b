//! Tests the functions of the operator's page: what their `function.json` declares, and how the app answers requests
//! without a key.

use std::{fs, path::Path, time::Duration};

use reqwest::{Client, Method, StatusCode, redirect};
use serde::Deserialize;
use url::Url;

use super::{Finding, Severity};
use crate::{error_chain::error_chain, loopback::is_loopback};

/// Timeout for an answer. An app that has no instance starts one first.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A function of the page.
struct Function {
    name: &'static str,
    auth_level: &'static str,
    methods: &'static [&'static str],
    /// A request that changes nothing, even if the function does not demand a key.
    probe: (Method, &'static str),
}

const FUNCTIONS: [Function; 3] = [
    Function { name: "page", auth_level: "anonymous", methods: &["get", "head"], probe: (Method::GET, "api/page") },
    Function {
        name: "view",
        auth_level: "function",
        methods: &["get", "head"],
        probe: (Method::GET, "api/view/v1/openapi.json"),
    },
    Function {
        name: "manage",
        auth_level: "function",
        methods: &["post", "put"],
        probe: (Method::POST, "api/manage/v1/plans"),
    },
];

/// Parses the address of an app: a host name, or a URL without a path. Plain `http://` is accepted on loopback only.
pub fn parse_app(text: &str) -> Result<Url, String> {
    let expected = || "expected the name of the app, such as contoso.azurewebsites.net".to_owned();
    let address = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&address).map_err(|_| expected())?;
    let is_app = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if is_app && is_safe { Ok(url) } else { Err(expected()) }
}

/// Tests the `function.json` files in `folder`, if it is the folder of an app. The Functions host enforces their
/// declarations.
pub(super) fn declare_who_may_call_them(folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in &FUNCTIONS {
        let Ok(text) = fs::read_to_string(folder.join(function.name).join("function.json")) else {
            continue;
        };
        let test = format!("read {}/function.json", function.name);
        findings.push(match function.mistake_in(&text) {
            None => Finding::ok(function.name, format!("{test}: authLevel is {}", function.auth_level)),
            Some(mistake) => Finding::fix(function.name, format!("{test}: {mistake}"))
                .todo("use the file of the release and deploy again: the host enforces what it declares"),
        });
    }
    findings
}

impl Function {
    /// The first difference between `text` and what the file must declare.
    fn mistake_in(&self, text: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Declaration {
            bindings: Vec<Binding>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Binding {
            r#type: String,
            auth_level: Option<String>,
            methods: Option<Vec<String>>,
        }
        let declaration: Declaration = match serde_json::from_str(text) {
            Ok(declaration) => declaration,
            Err(error) => return Some(format!("it cannot be parsed: {error}")),
        };
        let is_trigger = |binding: &Binding| binding.r#type.eq_ignore_ascii_case("httpTrigger");
        let Some(trigger) = declaration.bindings.into_iter().find(is_trigger) else {
            return Some("it has no httpTrigger".into());
        };
        // Without a level, the host demands a function key.
        let level = trigger.auth_level.as_deref().unwrap_or("function");
        if !level.eq_ignore_ascii_case(self.auth_level) {
            return Some(format!("authLevel is {level} instead of {}", self.auth_level));
        }
        let is_allowed = |method: &String| self.methods.iter().any(|allowed| method.eq_ignore_ascii_case(allowed));
        match trigger.methods {
            Some(methods) if methods.iter().all(is_allowed) => None,
            _ => Some(format!("it permits other methods than {}", self.methods.join(" and "))),
        }
    }

    /// Calls the function of `app` without a key.
    async fn answers(&self, client: &Client, app: &Url) -> Finding {
        let origin = app.origin().ascii_serialization();
        let test = format!("called {} of {origin} without a key", self.name);
        let (method, path) = &self.probe;
        let url = app.join(path).expect("the path is valid");
        let status = match client.request(method.clone(), url).send().await {
            Ok(response) => response.status(),
            Err(error) => {
                let text = format!("{test}: {}", error_chain(&error.without_url()));
                return Finding::new(Severity::Retry, self.name, text)
                    .todo("check the name of the app, and that this machine can connect to it");
            }
        };
        let needs_key = self.auth_level == "function";
        let text = format!("{test}: it answered {}", status.as_u16());
        match status {
            StatusCode::UNAUTHORIZED if needs_key => Finding::ok(self.name, format!("{test}: it demands one")),
            StatusCode::OK if !needs_key => Finding::ok(self.name, format!("{test}: it serves the page")),
            StatusCode::NOT_FOUND => Finding::fix(self.name, text)
                .todo("deploy the package of the release: there is no such function, or it is disabled"),
            StatusCode::FORBIDDEN => Finding::new(Severity::Skipped, self.name, text).todo(
                "the app's access restrictions reject this machine: run this on one that they admit, or change them",
            ),
            status if status.is_server_error() => {
                Finding::new(Severity::Retry, self.name, text).todo("see the log of the app if this stays")
            }
            _ if needs_key => Finding::fix(self.name, format!("{text} instead of 401, so anybody may call it"))
                .todo(format!("set authLevel to function in {}/function.json, and deploy again", self.name)),
            _ => Finding::fix(self.name, format!("{text} instead of 200"))
                .todo("set authLevel to anonymous in page/function.json: a browser opens the page without a key"),
        }
    }
}

/// Calls each function of `app` without a key.
pub(super) async fn demand_a_key(app: &Url) -> Vec<Finding> {
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT);
    let client = if is_loopback(app) { client.no_proxy() } else { client };
    let client = match client.build() {
        Ok(client) => client,
        Err(error) => return vec![Finding::new(Severity::Retry, "page", error_chain(&error))],
    };
    let mut findings = Vec::new();
    for function in &FUNCTIONS {
        findings.push(function.answers(&client, app).await);
    }
    findings
}

/// The finding if the address of the app is unknown.
pub(super) fn are_not_called() -> Finding {
    let text = "the functions page, view and manage were not called: name the app with --app";
    Finding::new(Severity::Skipped, "page", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_release_declare_what_they_must() {
        let findings = declare_who_may_call_them(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    }

    #[test]
    fn a_function_that_anybody_may_call_or_that_has_other_methods_is_a_mistake() {
        let [page, view, _] = &FUNCTIONS;
        let declared = |auth: &str, methods: &str| {
            format!(r#"{{"bindings": [{{"type": "httpTrigger", "authLevel": {auth}, "methods": {methods}}}]}}"#)
        };
        let mistake = view.mistake_in(&declared(r#""anonymous""#, r#"["get"]"#)).unwrap();
        assert_eq!(mistake, "authLevel is anonymous instead of function");
        assert_eq!(view.mistake_in(&declared("null", r#"["GET", "head"]"#)), None);
        assert!(page.mistake_in(&declared(r#""anonymous""#, r#"["get", "post"]"#)).is_some());
        assert!(page.mistake_in(&declared(r#""anonymous""#, "null")).is_some(), "every method");
        assert!(page.mistake_in("{").is_some());
    }

    #[test]
    fn an_app_is_a_host_name_or_an_address_without_a_path() {
        for (text, url) in [
            ("contoso.azurewebsites.net", Some("https://contoso.azurewebsites.net/")),
            ("https://contoso.azurewebsites.net/", Some("https://contoso.azurewebsites.net/")),
            ("http://127.0.0.1:7071", Some("http://127.0.0.1:7071/")),
            ("http://contoso.azurewebsites.net", None),
            ("https://contoso.azurewebsites.net/api/page?code=x", None),
            ("", None),
        ] {
            assert_eq!(parse_app(text).ok().as_ref().map(Url::as_str), url, "{text}");
        }
    }
}
