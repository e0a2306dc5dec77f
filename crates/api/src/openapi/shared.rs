//! What many operations share, and their handlers do not repeat.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::{
    Components, Deprecated, Header, Object, RefOr, Required, Response, Schema,
    example::ExampleBuilder,
    header::HeaderBuilder,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    schema::{SchemaType, Type},
};

use crate::{
    Code,
    edge::{RETIRED, Retired, find_retired},
};

/// What any answer may carry beside its body.
const HEADERS: &[(&str, &str)] = &[
    ("X-Request-Id", "under which the service logged the request; a caller may send its own"),
    ("RateLimit", "under /v1: how many requests are left, and for how many seconds"),
    ("RateLimit-Policy", "under /v1: how many there are in which time"),
    ("Retry-After", "with 429, 503 and `idempotency-in-flight`: seconds to wait"),
];

/// Bodies that are sent, whole, by operation and by what each is for. Others show one in their schema.
const REQUESTS: &str = include_str!("requests.json");
/// Answers as the service gave them: `UPDATE_DOCS=1 cargo test -p api --test it docs` has the tests write them.
const ANSWERS: &str = include_str!("answers.json");

/// Answers of which an example says more than their schema.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("get", "/v1/offers", include_str!("offers.json")),
    ("post", "/v1/disputes/{id}/accept", include_str!("agreement.json")),
    ("post", "/v1/disputes/{id}/propose", include_str!("agreement.json")),
];

fn text() -> Object {
    Object::with_type(SchemaType::Type(Type::String))
}

/// A header with text.
fn header(about: &str) -> RefOr<Header> {
    HeaderBuilder::new().schema(Some(text())).description(Some(about)).build().into()
}

/// Names the headers of any answer in that of an error.
pub(super) fn name_headers(response: &mut Response) {
    for (name, about) in HEADERS {
        response.headers.insert((*name).to_owned(), header(about));
    }
}

/// The kinds of error, by name: a machine decides by them. A later version may add to them.
pub(super) fn name_codes(components: &mut Components) {
    for schema in ["Problem", "ItemProblem"] {
        let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut(schema) else {
            continue;
        };
        if let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code") {
            let names = Code::ALL.iter().map(|code| Value::from(code.as_str()));
            code.enum_values = Some(names.collect());
        }
    }
}

/// Whoever answers `304` is asked with `If-None-Match`, and tells a tag.
pub(super) fn name_conditions(operation: &mut Operation) {
    if !operation.responses.responses.contains_key("304") {
        return;
    }
    let parameters = operation.parameters.get_or_insert_default();
    let named =
        |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.name == "If-None-Match");
    if !parameters.iter().any(named) {
        parameters.push(
            ParameterBuilder::new()
                .name("If-None-Match")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(
                    "the ETag of an earlier answer: 304 without a body if it is still so",
                ))
                .schema(Some(text()))
                .build()
                .into(),
        );
    }
    if let Some(RefOr::T(found)) = operation.responses.responses.get_mut("200") {
        found.headers.entry("ETag".to_owned()).or_insert_with(|| header("for If-None-Match"));
    }
}

/// What the operations' bodies look like.
pub(super) struct Shown {
    requests: BTreeMap<String, BTreeMap<String, Value>>,
    answers: BTreeMap<String, Value>,
}

impl Shown {
    /// Reads them. They are part of the program: a test sees to it that they can be read.
    pub(super) fn read() -> Self {
        let mut answers: BTreeMap<String, Value> =
            serde_json::from_str(ANSWERS).unwrap_or_default();
        for (method, path, text) in EXAMPLES {
            if let Ok(shown) = serde_json::from_str(text) {
                answers.insert(format!("{method} {path}"), shown);
            }
        }
        Self { requests: serde_json::from_str(REQUESTS).unwrap_or_default(), answers }
    }

    /// Shows what is sent and what is answered, where there is something to show.
    pub(super) fn show(&self, method: &str, path: &str, operation: &mut Operation) {
        let name = format!("{method} {path}");
        let sent = match &mut operation.request_body {
            Some(RefOr::T(body)) => body.content.get_mut("application/json"),
            Some(RefOr::Ref(_)) | None => None,
        };
        if let (Some(RefOr::T(content)), Some(shown)) = (sent, self.requests.get(&name)) {
            if shown.len() == 1 {
                content.example = shown.values().next().cloned();
            } else {
                let named = shown.iter().map(|(about, value)| {
                    let example = ExampleBuilder::new().value(Some(value.clone())).build();
                    (about.clone(), RefOr::T(example))
                });
                content.examples = named.collect();
            }
        }
        let Some(shown) = self.answers.get(&name) else { return };
        let responses = &mut operation.responses.responses;
        let Some(status) = ["200", "201", "202"].into_iter().find(|it| responses.contains_key(*it))
        else {
            return;
        };
        if let Some(RefOr::T(found)) = responses.get_mut(status)
            && let Some(RefOr::T(content)) = found.content.get_mut("application/json")
        {
            content.example = Some(shown.clone());
        }
    }
}

/// Marks what is on its way out.
pub(super) fn retire(method: &str, path: &str, operation: &mut Operation) {
    retire_of(RETIRED, method, path, operation);
}

fn retire_of(all: &[Retired], method: &str, path: &str, operation: &mut Operation) {
    if find_retired(all, &method.to_uppercase(), path).is_some() {
        operation.deprecated = Some(Deprecated::True);
    }
}

#[cfg(test)]
mod tests {
    use domain::time::UnixSeconds;

    use super::*;

    #[test]
    fn what_is_on_its_way_out_is_marked() {
        let all = &[Retired {
            method: "GET",
            route: "/v1/old",
            since: UnixSeconds(1),
            sunset: "Wed, 01 Jul 2026 00:00:00 GMT",
            successor: "/v1/new",
        }];
        let marked = |method: &str, path: &str| {
            let mut operation = Operation::new();
            retire_of(all, method, path, &mut operation);
            operation.deprecated.is_some()
        };
        assert!(marked("get", "/v1/old"));
        assert!(!marked("post", "/v1/old") && !marked("get", "/v1/new"));
    }

    #[test]
    fn examples_are_json() {
        for (_, path, text) in EXAMPLES {
            assert!(serde_json::from_str::<Value>(text).is_ok_and(|it| it.is_object()), "{path}");
        }
        let requests: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_str(REQUESTS).unwrap();
        let answers: BTreeMap<String, Value> = serde_json::from_str(ANSWERS).unwrap();
        assert!(requests.len() > 20 && answers.len() > 10);
        let api = serde_json::to_value(crate::openapi()).unwrap();
        for name in requests.keys().chain(answers.keys()) {
            let (method, path) = name.split_once(' ').unwrap();
            assert!(api["paths"][path][method].is_object(), "{name} is gone");
        }
    }
}
