//! The API's description, the pages about errors, metrics, and the server itself.

use std::{collections::BTreeSet, path::Path, time::Duration};

use api::Code;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::{fixture::World, shows};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every Rust file of the crate.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn no_two_types_are_described_under_one_name() {
    // the second would silently take the place of the first
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    let mut names = BTreeSet::new();
    for file in &files {
        for described in file.split("ToSchema)]").skip(1) {
            let words = described.split(|c: char| !c.is_alphanumeric() && c != '_');
            let mut after = words.skip_while(|word| *word != "struct" && *word != "enum").skip(1);
            let name = after.next().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is described twice");
        }
    }
    assert!(names.len() > 100, "{} types", names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_covers_every_route_and_every_error() {
    let world = World::new().await;
    let api = world.get("/openapi.json").send().await.ok(200);
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let schemas = api["components"]["schemas"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    let mut references = Vec::new();
    collect_references(&api, &mut references);
    for reference in references {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{name} is described nowhere");
    }
    let mut paths = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in METHODS {
            let Some(operation) = item.get(method) else {
                continue;
            };
            paths += 1;
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let described = response["description"].as_str();
                assert!(described.is_some_and(|text| !text.is_empty()), "{method} {path} {status}");
                if status == "default" || status.starts_with(['4', '5']) {
                    let problem = &response["content"]["application/problem+json"];
                    let schema = &problem["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
                }
            }
            assert!(operation["responses"].get("default").is_some(), "{method} {path}");
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"));
            }
            // and the route is there: it refuses, if it does, by a rule of its own
            let concrete = path.replace("{id}", "nonsense").replace("{code}", "nonsense");
            // a stream that needs no session would not end: refuse it by what it does not take
            let concrete = if path == "/v1/offers/stream" {
                "/v1/offers/stream?limit=1".to_owned()
            } else {
                concrete
            };
            let reply = world.call(&method.to_uppercase(), &concrete).send().await;
            assert_ne!(reply.body["code"], "method-not-allowed", "{method} {path}");
            let routed = reply.body["detail"] != "no resource has this path; see /docs";
            assert!(routed, "{method} {path}");
            let needs_session = operation.get("security").is_some();
            if needs_session {
                reply.problem(401, "unauthenticated");
            }
        }
    }
    assert!(paths >= 30, "{paths}");
}

/// What generated clients go by beside the schemas.
#[test]
fn the_description_says_what_machines_need() {
    let api: Value = serde_json::from_str(&api::openapi().to_json().unwrap()).unwrap();
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for schema in ["Problem", "ItemProblem"] {
        let code = &api["components"]["schemas"][schema]["properties"]["code"];
        assert_eq!(code["enum"], serde_json::json!(codes), "{schema}");
    }
    let mut conditional = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = &operation["responses"];
            for name in ["X-Request-Id", "RateLimit", "RateLimit-Policy", "Retry-After"] {
                let named = &responses["default"]["headers"][name];
                assert_eq!(named["schema"]["type"], "string", "{method} {path} {name}");
            }
            assert!(operation.get("deprecated").is_none(), "{method} {path}");
            if responses.get("304").is_none() {
                continue;
            }
            conditional += 1;
            let none = Vec::new();
            let given = operation["parameters"].as_array().unwrap_or(&none);
            let named = given.iter().filter(|one| one["name"] == "If-None-Match");
            assert_eq!(named.count(), 1, "{method} {path}");
            assert!(responses["200"]["headers"]["ETag"].is_object(), "{method} {path}");
        }
    }
    assert!(conditional >= 17, "{conditional}");
    for path in ["/v1/rentals", "/v1/webhooks"] {
        let created = &api["paths"][path]["post"]["responses"]["201"];
        assert!(created["headers"]["Location"].is_object(), "{path}");
    }
    assert!(api["components"]["schemas"]["MachinePatch"]["example"].is_object());
}

/// The members of a value, and of what is in them, by place.
fn shape(value: &Value, place: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                into.insert(format!("{place}/{name}"));
                shape(member, &format!("{place}/{name}"), into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, place, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Why a value is not what a schema of the document describes.
fn refusal(api: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").unwrap();
        return refusal(api, &api["components"]["schemas"][name], value, place);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().find_map(|one| refusal(api, one, value, place));
    }
    if let Some(forms) = schema["oneOf"].as_array() {
        let refusals: Vec<_> =
            forms.iter().filter_map(|form| refusal(api, form, value, place)).collect();
        let fits = forms.len() - refusals.len();
        return (fits != 1).then(|| format!("{place}: {fits} of the forms fit, {refusals:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let takes = match &schema["type"] {
        Value::String(one) => one == kind || (one == "number" && kind == "integer"),
        Value::Array(some) => some.iter().any(|one| one == kind),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    if !takes {
        return Some(format!("{place}: {kind}, and not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Some(format!("{place}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(least), Some(given)) = (schema["minimum"].as_i64(), value.as_i64())
        && given < least
    {
        return Some(format!("{place}: {given} is below {least}"));
    }
    match value {
        Value::Array(items) => {
            items.iter().find_map(|item| refusal(api, &schema["items"], item, place))
        }
        Value::Object(members) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let missing = required.filter_map(Value::as_str).find(|it| !members.contains_key(*it));
            if let Some(missing) = missing {
                return Some(format!("{place}: {missing} is missing"));
            }
            members.iter().find_map(|(name, member)| {
                let place = format!("{place}/{name}");
                match schema["properties"].get(name) {
                    Some(known) => refusal(api, known, member, &place),
                    None if schema["additionalProperties"] == false => {
                        Some(format!("{place}: there is no such member"))
                    }
                    None => None,
                }
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[test]
fn every_body_that_is_sent_is_shown_whole_and_is_what_its_schema_takes() {
    let api: Value = serde_json::from_str(&api::openapi().to_json().unwrap()).unwrap();
    let mut bodies = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_null() {
                continue;
            }
            bodies += 1;
            let named = content["schema"]["$ref"].as_str().unwrap_or_default();
            let named = named.strip_prefix("#/components/schemas/").unwrap_or_default();
            let own = [&content["example"], &api["components"]["schemas"][named]["example"]];
            let many = content["examples"].as_object().into_iter().flatten();
            let shown = own.into_iter().filter(|one| !one.is_null());
            let shown: Vec<&Value> = shown.chain(many.map(|(_, one)| &one["value"])).collect();
            assert!(!shown.is_empty(), "{method} {path}: show a body in openapi/requests.json");
            for example in shown {
                let refused = refusal(&api, &content["schema"], example, "");
                assert_eq!(refused, None, "{method} {path}: {example}");
                assert_eq!(misnamed(example), None, "{method} {path}: {example}");
            }
        }
    }
    assert!(bodies > 30, "{bodies}");
    // and the check does refuse
    let schema = serde_json::json!({"$ref": "#/components/schemas/RentalRequest"});
    for bad in ["{}", r#"{"quote_id":5}"#, r#"{"quote_id":"quo_1","more":1}"#] {
        let bad = serde_json::from_str(bad).unwrap();
        assert!(refusal(&api, &schema, &bad, "").is_some(), "{bad}");
    }
}

/// An id in an example whose kind is not that of its member.
fn misnamed(example: &Value) -> Option<String> {
    let kinds = [
        ("quote_id", "quo_"),
        ("quote_ids", "quo_"),
        ("offer_id", "ofr_"),
        ("machine_id", "mch_"),
        ("rental_id", "rnt_"),
        ("ssh_key_ids", "ssh_"),
    ];
    let members = example.as_object().into_iter().flatten();
    let mut of_another_kind = members.filter_map(|(name, value)| {
        let kind = kinds.iter().find(|(member, _)| member == name).map(|(_, kind)| *kind);
        let own = std::slice::from_ref(value);
        let ids = value.as_array().map_or(own, Vec::as_slice);
        let mut ids = ids.iter().filter_map(Value::as_str);
        match kind {
            Some(kind) => ids.find(|id| !id.starts_with(kind)).map(str::to_owned),
            None => misnamed(value),
        }
    });
    of_another_kind.next()
}

/// What is shown as the answer of an operation.
fn shown_answer<'a>(api: &'a Value, method: &str, path: &str) -> &'a Value {
    let responses = &api["paths"][path][method]["responses"];
    let made = ["200", "201", "202"].into_iter().find(|status| !responses[*status].is_null());
    &responses[made.unwrap()]["content"]["application/json"]
}

/// An example has only what an answer has, and most of it.
pub fn assert_is_as_shown(method: &str, path: &str, answer: &Value) {
    let api: Value = serde_json::from_str(&api::openapi().to_json().unwrap()).unwrap();
    let content = shown_answer(&api, method, path);
    let (mut shown, mut given) = (BTreeSet::new(), BTreeSet::new());
    shape(&content["example"], "", &mut shown);
    shape(answer, "", &mut given);
    let wrong: Vec<_> = shown.difference(&given).collect();
    assert!(wrong.is_empty(), "{method} {path} has no {wrong:?}: {answer}");
    assert!(shown.len() * 10 >= given.len() * 8, "{method} {path}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_search_is_what_one_finds() {
    let world = World::new().await;
    world.rig(1, 1, "0.65").await;
    world.state.catch_up_with_market().await.unwrap();
    let path = "/v1/offers?gpu_model=rtx-4090&hours=8&tokens_per_s=1550&limit=1";
    let answer = world.get(path).send().await.ok(200);
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    assert_is_as_shown("get", "/v1/offers", &answer);
}

/// Answers are shown as the service gives them: these are asked for, and written where they have changed their shape.
#[tokio::test(flavor = "multi_thread")]
async fn the_answers_that_are_shown_are_what_one_gets() {
    let given = shows::answers().await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi/answers.json");
    let api: Value = serde_json::from_str(&api::openapi().to_json().unwrap()).unwrap();
    // each has its own ids and times: written only where that is not all, so that what is written stays
    let is_news = given.iter().any(|(name, answer)| {
        let (method, path) = name.split_once(' ').unwrap();
        let (mut shown, mut told) = (BTreeSet::new(), BTreeSet::new());
        shape(&shown_answer(&api, method, path)["example"], "", &mut shown);
        shape(answer, "", &mut told);
        shown != told
    });
    if std::env::var_os("UPDATE_DOCS").is_some() && is_news {
        let mut page = serde_json::to_string_pretty(&given).unwrap();
        page.push('\n');
        std::fs::write(path, page).unwrap();
        return;
    }
    for (name, answer) in &given {
        let (method, path) = name.split_once(' ').unwrap();
        assert_is_as_shown(method, path, answer);
        let content = shown_answer(&api, method, path);
        let refused = refusal(&api, &content["schema"], &content["example"], "");
        assert_eq!(refused, None, "{name}");
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(reference) if name == "$ref" => into.push(reference.to_owned()),
                    _ => collect_references(member, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_can_be_tried_without_the_internet() {
    let world = World::new().await;
    assert_eq!(world.get("/docs").send().await.header("location"), "/docs/");
    let page = world.get("/docs/").send().await;
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("connect-src 'self'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let page = page.ok(200);
    let page = page.as_str().unwrap();
    // what the policy forbids is not in the page: scripts within it, and handlers in its elements
    for script in page.split("<script").skip(1) {
        let (attributes, rest) = script.split_once('>').unwrap();
        assert!(attributes.contains("src=\"./"), "{attributes}");
        assert!(rest.split("</script>").next().unwrap().trim().is_empty(), "{rest}");
    }
    assert!(!page.contains(" on") && !page.contains("javascript:"), "{page}");
    assert!(page.contains("swagger-ui-bundle.js"));
    assert!(!page.contains("https://"), "nothing is fetched from elsewhere");
    let script = world.get("/docs/swagger-ui-bundle.js").send().await;
    assert_eq!(script.status, 200);
    assert!(script.body.as_str().unwrap().len() > 100_000);
    let start = world.get("/docs/swagger-initializer.js").send().await.ok(200);
    let start = start.as_str().unwrap();
    assert!(start.contains("/openapi.json"));
    assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_a_page() {
    let world = World::new().await;
    let all = world.get("/errors").send().await.ok(200);
    assert_eq!(all["data"].as_array().unwrap().len(), Code::ALL.len());
    for code in Code::ALL {
        let path = format!("/errors/{}", code.as_str());
        let entry = world.get(&path).send().await.ok(200);
        assert_eq!(entry["status"], code.status().as_u16());
        let page = world.get(&path).header("accept", "text/html,*/*").send().await;
        assert!(page.header("content-type").starts_with("text/html"));
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; base-uri"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script"));
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert!(page.ok(200).as_str().unwrap().contains(code.help()));
        let text = world.get(&path).header("accept", "text/plain").send().await;
        assert!(text.header("content-type").starts_with("text/plain"));
        assert!(text.ok(200).as_str().unwrap().contains(code.help()));
    }
    let list = world.get("/errors").header("accept", "text/html, */*").send().await;
    assert!(list.header("content-type").starts_with("text/html"));
    let list = list.ok(200);
    for code in Code::ALL {
        let link = format!("href=\"/errors/{}\"", code.as_str());
        assert!(list.as_str().unwrap().contains(&link), "{link}");
    }
    world.get("/errors/nonsense").send().await.problem(404, "not-found");
}

#[test]
fn codes_are_unique_and_written_down() {
    let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ERRORS.md");
    let page = api::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "docs/ERRORS.md is stale: UPDATE_DOCS=1 cargo test -p api");
}

/// The committed description is what clients are generated from.
#[test]
fn the_description_is_written_down() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut page = api::openapi().to_pretty_json().unwrap();
    page.push('\n');
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "crates/api/openapi.json is stale: UPDATE_DOCS=1 cargo test -p api");
}

/// Every code is provoked by a request in these tests, or there is a reason why not.
#[test]
fn every_code_is_reached() {
    let sources = [
        include_str!("agent.rs"),
        include_str!("api_keys.rs"),
        include_str!("auth.rs"),
        include_str!("booking.rs"),
        include_str!("chunks.rs"),
        include_str!("edge.rs"),
        include_str!("events.rs"),
        include_str!("limits.rs"),
        include_str!("machines.rs"),
        include_str!("machines/windows.rs"),
        include_str!("market.rs"),
        include_str!("money.rs"),
        include_str!("payments.rs"),
        include_str!("provider.rs"),
        include_str!("quotes.rs"),
        include_str!("readings.rs"),
        include_str!("seals.rs"),
        include_str!("ssh_keys.rs"),
    ];
    for code in Code::ALL {
        // needs a bug or a damaged row: the edge's own test makes a handler panic
        if *code == Code::Internal {
            continue;
        }
        let literal = format!("\"{}\"", code.as_str());
        assert!(sources.iter().any(|source| source.contains(&literal)), "{literal} is not tested");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_metrics_says_so() {
    let world = World::new().await;
    world.get("/metrics").send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_metrics_shows_them() {
    let mut world = World::new().await;
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let chain = world.state.chain.clone();
    let config = api::ApiConfig::clone(&world.state.config);
    let metrics = Some(recorder.handle());
    let state = api::AppState::new(world.store.clone(), chain, config, metrics);
    world.router = api::router(state);
    let reply = world.get("/metrics").send().await;
    assert!(reply.header("content-type").starts_with("text/plain"));
    reply.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_and_stops_with_streams_open() {
    // far longer than is waited for the stop
    let world = World::with(|config| config.drain_timeout = Duration::from_secs(300)).await;
    let running = crate::running::Running::new(&world).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(api::serve(listener, world.state.clone(), shutdown.clone()));
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/rentals/{}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        running.id, running.renter.token
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = vec![0; 512];
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read(&mut seen));
    let read = read.await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&seen[..read]).starts_with("HTTP/1.1 200"));
    shutdown.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(30), server).await;
    stopped.expect("streams end when the service closes").unwrap().unwrap();
}
