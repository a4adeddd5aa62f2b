//! Parses the query of a request, and the variable segment of its path. All errors of a query are reported together.

use std::{collections::BTreeMap, fmt};

use axum::{
    extract::{FromRequestParts, Path},
    http::{Uri, request::Parts},
};

use super::problem::{FieldError, Problem};

/// Parameters that belong to the Functions host: it accepts its key in the query, too.
const OF_THE_HOST: [&str; 2] = ["code", "clientId"];

/// The variable segment of a path, such as an id.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segment = Path::<String>::from_request_parts(parts, state).await;
        segment.map(|Path(text)| Self(text)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

/// The parameters of a request, and the errors found so far.
pub(super) struct Query {
    parameters: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Query {
    /// The parameters of `uri`.
    pub(super) fn of(uri: &Uri) -> Self {
        let mut query = Self { parameters: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if OF_THE_HOST.contains(&&*name) {
                continue;
            }
            if query.parameters.insert(name.to_string(), value.into_owned()).is_some() {
                query.errors.push(FieldError::new(name, "the parameter is given twice"));
            }
        }
        query
    }

    /// Takes a parameter; `None` if it is not given, or not usable.
    pub(super) fn take<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&self.parameters.remove(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(FieldError::new(name, error));
                None
            }
        }
    }

    /// Takes a number from 1 to `max`.
    pub(super) fn take_number(&mut self, name: &str, max: u16) -> Option<u16> {
        self.take(name, |text| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            number
                .filter(|number| (1..=max).contains(number))
                .ok_or_else(|| format!("expected a number from 1 to {max}"))
        })
    }

    /// Takes a parameter that must be given.
    pub(super) fn require<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.parameters.contains_key(name) {
            self.errors.push(FieldError::new(name, "the parameter is missing"));
        }
        self.take(name, parse)
    }

    /// Fails if a parameter was not usable, or is not one of those taken.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let unknown = self.parameters.keys().map(|name| FieldError::new(name, "there is no such parameter"));
        self.errors.extend(unknown);
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}
