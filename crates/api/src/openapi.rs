//! The API's own description (OpenAPI 3.1), finished from what the handlers say.

mod shapes;
mod shared;

use axum::http::StatusCode;
use utoipa::openapi::{
    Components, ContentBuilder, Info, License, OpenApi, Ref, RefOr, ResponseBuilder, Tag,
    path::{Operation, PathItem},
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};
use utoipa::{PartialSchema as _, ToSchema};

use crate::{
    access,
    problem::{FieldError, MEDIA_TYPE, ProblemBody},
};

const TAGS: [(&str, &str); 7] = [
    ("account", "Sign in with a wallet."),
    ("market", "What anyone may see."),
    ("renter", "Ask for a price, book it, follow the rental, stop it, read what it came to."),
    ("provider", "Register machines, offer them, see what they earn."),
    ("agent", "For the program on a provider's machine."),
    ("webhooks", "Be told of what happens instead of asking."),
    ("system", "Health, metrics and the meaning of errors."),
];

/// How callers show who they are; all as `Authorization: Bearer`.
const SCHEMES: &[(&str, &str)] = &[
    ("bearer", "The session of a wallet that signed in at /v1/auth/siwe."),
    ("api_key", "A key of /v1/api-keys (`weir_sk_...`) that has the scope named."),
    ("agent", "The session of a machine's agent, of /v1/agent/session."),
    (
        "rental_token",
        "What came with the payment of a rental (x402), `access.token`: good for this rental alone.",
    ),
];

/// Adds to every operation what all of them share: the answer in case of an error.
pub(crate) fn finish(mut api: OpenApi) -> OpenApi {
    let mut info = Info::new("Weir", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "GPU rental with the money in an escrow contract. Errors are RFC 9457 problems, listed at \
         /errors. Money is never a JSON number. Every answer under /v1 tells by `RateLimit` and `RateLimit-Policy` how \
         many requests are left; one too many is answered 429 with `Retry-After`. `Idempotency-Key` is read by the \
         operations that name it; others do the same thing twice alike or refuse it, and leave the key unread. `traceparent` is taken up and \
         `traceresponse` answered."
            .to_owned(),
    );
    info.license = Some(License::new("Apache-2.0"));
    api.info = info;
    api.tags = Some(TAGS.iter().map(|(name, about)| tag(name, about)).collect());
    let components = api.components.get_or_insert_with(Components::new);
    for (name, about) in SCHEMES {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some((*about).to_owned());
        components.security_schemes.insert((*name).to_owned(), SecurityScheme::Http(scheme).into());
    }
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    components.schemas.insert(FieldError::name().into_owned(), FieldError::schema());
    let shown = shared::Shown::read();
    shapes::join_kinds(components);
    shared::name_codes(components);
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(operation_id(method, path));
            describe(operation);
            shapes::leave_out_streams(operation);
            secure(method, path, operation);
            shared::name_conditions(operation);
            shown.show(method, path, operation);
            shared::retire(method, path, operation);
            let mut problem = ResponseBuilder::new()
                .description("An error; `code` says which of those at /errors.")
                .content(
                    MEDIA_TYPE,
                    ContentBuilder::new()
                        .schema(Some(Ref::from_schema_name(ProblemBody::name())))
                        .build(),
                )
                .build();
            shared::name_headers(&mut problem);
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && status.starts_with(['4', '5'])
                {
                    response.content.clone_from(&problem.content);
                    shared::name_headers(response);
                }
            }
            operation.responses.responses.insert("default".to_owned(), problem.into());
        }
    }
    api
}

fn tag(name: &str, about: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(about)).build()
}

/// Who may call it, by the table of scopes: a wallet's session, an API key with a scope, a rental's token, whoever pays, or
/// a machine's agent.
fn secure(method: &str, path: &str, operation: &mut Operation) {
    let Some(security) = &mut operation.security else { return };
    if path.starts_with("/v1/agent/") {
        *security = vec![SecurityRequirement::new::<_, [&str; 0], _>("agent", [])];
    } else if let Some(scope) = access::scope_of(&method.to_uppercase(), path) {
        security.push(SecurityRequirement::new("api_key", [scope.as_str()]));
    }
    if path.starts_with("/v1/rentals/{id}") || path.starts_with("/v1/disputes") {
        security.push(SecurityRequirement::new::<_, [&str; 0], _>("rental_token", []));
    } else if path == "/v1/rentals" && method == "post" {
        // by whoever pays for an offer at once
        security.push(SecurityRequirement::default());
    }
}

/// A response needs a description; where the handler gives none, its status says enough.
fn describe(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else {
            continue;
        };
        if response.description.is_empty() {
            let status = status.parse::<StatusCode>().ok();
            let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("Done");
            response.description = format!("{reason}.");
        }
    }
}

/// `post_rentals_id_stop`: the handlers' names say little outside of their modules.
fn operation_id(method: &str, path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != "v1");
    parts.fold(method.to_owned(), |id, part| {
        let name = part.trim_matches(['{', '}']).replace(['-', '.'], "_");
        format!("{id}_{name}")
    })
}

/// The operations of a path, each with its method's name.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", item.get.as_mut()),
        ("post", item.post.as_mut()),
        ("patch", item.patch.as_mut()),
        ("delete", item.delete.as_mut()),
        ("put", item.put.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.map(|operation| (method, operation)))
}
