//! The OpenAPI document of the API, generated from its handlers and types. `schema/openapi.v1.json` is the same document.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};

use super::{attributes, manage, replays, view};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vivadrop",
        version = "1",
        description = "Where every drop stands, and what to do. `view` only reads; `manage` records what is to be done.",
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "view", description = "Reads the ledger"),
        (name = "manage", description = "Records what is to be done"),
    ),
    paths(view::drops, view::drop, view::groups, view::weeks, view::customers, replays::plan, replays::replays,
        replays::replay, attributes::tenants, attributes::tenant, attributes::replace, manage::create_plan, manage::create_replay, manage::resume_replay, manage::cancel_replay),
    modifiers(&FunctionKey),
    security(("functionKey" = []))
)]
struct Description;

/// The key of the Functions host.
struct FunctionKey;

impl Modify for FunctionKey {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-functions-key")));
        components.add_security_scheme("functionKey", key);
    }
}

/// The document.
pub fn document() -> String {
    let mut text = Description::openapi().to_pretty_json().expect("the document is JSON");
    text.push('\n');
    text
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}
