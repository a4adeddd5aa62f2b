//! The OpenAPI document of the API. It is generated from handlers and types, and a test keeps `schema/openapi.v1.json`
//! equal to it. The API serves that file, so that the generator is not linked into vivadrop.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};

use super::{attributes, imports, manage, replays, view};

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
        replays::replay, attributes::tenants, attributes::tenant, attributes::replace, imports::request_import, manage::create_plan, manage::create_replay, manage::resume_replay, manage::cancel_replay),
    modifiers(&Common),
    security(("functionKey" = []))
)]
struct Description;

/// Adds to every operation the key of the Functions host, and the responses for a wrong key and for storage that does
/// not answer.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-functions-key")));
        components.add_security_scheme("functionKey", key);
        for item in document.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.put].into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                responses.insert("401".into(), problem("The key is missing or wrong").into());
                responses.insert("503".into(), problem("The storage account does not answer").into());
            }
        }
    }
}

/// A response with problem details.
fn problem(description: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

/// Generates the document.
pub fn document() -> String {
    let mut text = Description::openapi().to_pretty_json().expect("the document is JSON");
    text.push('\n');
    text
}

pub(super) async fn openapi() -> Response {
    let document = include_str!("../../schema/openapi.v1.json");
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
