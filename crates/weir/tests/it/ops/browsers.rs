//! Pages of other origins call the API of a real process.

use reqwest::{Method, header};

use super::{
    market::Market,
    process::{Server, http, weir},
};

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_origins_that_are_named_may_call() {
    let market = Market::open().await;
    let origins = ("WEIR_CORS_ORIGINS", "https://Console.example, http://localhost:5173");
    let server = Server::start(&market.with(&[origins])).await;
    let client = http();
    for (origin, named) in [
        ("https://console.example", true),
        ("http://localhost:5173", true),
        ("https://elsewhere.example", false),
    ] {
        let preflight = client
            .request(Method::OPTIONS, format!("{}/v1/rentals", server.url))
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let plain = client.get(format!("{}/v1/tokens", server.url)).header(header::ORIGIN, origin);
        for asked in [preflight, plain] {
            let answer = asked.send().await.unwrap();
            let allowed = answer.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            let allowed = allowed.map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(allowed.as_deref(), named.then_some(origin), "{answer:?}");
            let credentials = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
            assert!(!answer.headers().contains_key(credentials), "there are no cookies");
        }
    }
}

#[tokio::test]
async fn a_star_is_refused_with_its_reason() {
    let mut command = weir(&["serve"], &[("WEIR_CORS_ORIGINS", "*")]);
    let said = command.output().unwrap();
    assert!(!said.status.success());
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("WEIR_CORS_ORIGINS") && told.contains("name the origins"), "{told}");
}
