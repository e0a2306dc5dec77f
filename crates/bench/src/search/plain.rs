//! P6: an unsatisfiable search, by the service's own handler and by PostgreSQL on the same data.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use sqlx::PgConnection;
use tower::ServiceExt as _;

use super::{WORST, WORST_SQL, market_data::Filled};
use crate::{
    BenchError, Scenario, Server, Slice, Verdict,
    closed_loop::{Client, Step, drive},
    server::WEIR,
};

/// By the handler, without a socket: reading the query, searching, writing JSON.
pub struct InMemory {
    client: Vec<Handler>,
}

struct Handler {
    router: Router,
    found: u64,
}

impl InMemory {
    pub(crate) const NAME: &str = "p6_search_unsatisfiable";

    pub(crate) fn new(filled: &Filled) -> Self {
        Self { client: vec![Handler { router: api::router(filled.app.clone()), found: 0 }] }
    }
}

impl Client for Handler {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let doing = "search";
        let request = Request::get(format!("/v1/offers?{WORST}")).body(Body::empty());
        let request = request.map_err(BenchError::subject(doing))?;
        let answer =
            self.router.clone().oneshot(request).await.map_err(BenchError::subject(doing))?;
        let status = answer.status();
        let body =
            to_bytes(answer.into_body(), 1 << 20).await.map_err(BenchError::subject(doing))?;
        if !status.is_success() || !body.starts_with(b"{\"data\":[],") {
            self.found = self.found.saturating_add(1);
        }
        Ok(Step::Done(1))
    }
}

impl Scenario for InMemory {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn prepare(&mut self, _: Duration) -> Result<(), BenchError> {
        Ok(())
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let (client, slice) = drive(std::mem::take(&mut self.client), span).await?;
        self.client = client;
        Ok(slice)
    }

    async fn verify(&mut self, _: &Slice) -> Result<Verdict, BenchError> {
        let found: u64 = self.client.iter().map(|client| client.found).sum();
        Ok(Verdict::of([(found == 0, format!("{found} answers were not empty pages"))]))
    }
}

/// By PostgreSQL, over its own socket, prepared.
pub struct Plain {
    client: Vec<Asker>,
}

struct Asker {
    connection: PgConnection,
    found: u64,
}

impl Plain {
    pub(crate) const NAME: &str = "postgresql";

    pub(crate) async fn start(server: &Server) -> Result<Self, BenchError> {
        let connection = server.connect(WEIR).await?;
        Ok(Self { client: vec![Asker { connection, found: 0 }] })
    }
}

impl Client for Asker {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let rows = sqlx::query(WORST_SQL)
            .fetch_all(&mut self.connection)
            .await
            .map_err(BenchError::sql("search in PostgreSQL"))?;
        self.found = self.found.saturating_add(u64::from(!rows.is_empty()));
        Ok(Step::Done(1))
    }
}

impl Scenario for Plain {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn prepare(&mut self, _: Duration) -> Result<(), BenchError> {
        Ok(())
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let (client, slice) = drive(std::mem::take(&mut self.client), span).await?;
        self.client = client;
        Ok(slice)
    }

    async fn verify(&mut self, _: &Slice) -> Result<Verdict, BenchError> {
        let found: u64 = self.client.iter().map(|client| client.found).sum();
        Ok(Verdict::of([(found == 0, format!("{found} answers were not empty"))]))
    }
}
