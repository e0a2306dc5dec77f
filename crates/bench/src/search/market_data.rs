//! The generated market, in the service's own tables and, for PostgreSQL's sake, in one flat table with an index that
//! holds everything the query asks for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use api::{ApiConfig, AppState};
use chain::ReadClient;
use domain::time::{Seconds, UnixSeconds};
use market::{Listing, generate::Generator};
use sqlx::PgConnection;
use store::listings;
use tokio::{net::TcpListener, time::Instant};

use crate::{
    BenchError, Server,
    server::{WEIR, generous},
};

const DOING: &str = "fill the market";
/// Offers that are stored in one transaction.
const AT_ONCE: usize = 10_000;
/// Longer than any run.
const HEARD_FOR: Seconds = Seconds(24 * 3_600);
const READ_WITHIN: Duration = Duration::from_secs(300);

/// A market in the database, and a service that has read it.
pub(crate) struct Filled {
    pub(crate) offers: u32,
    pub(crate) app: AppState,
    /// From the start of reading until the index is there.
    pub(crate) read_in: Duration,
    /// The same with the file that the service before wrote.
    pub(crate) restored_in: Duration,
    pub(crate) image_bytes: u64,
    pub(crate) url: String,
    /// Stops when dropped.
    _server: Serving,
}

/// A runtime of one thread with a name, so that its time can be told from the clients'.
pub(crate) struct Serving {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Serving {
    pub(crate) fn start(
        name: &str,
        listener: TcpListener,
        router: axum::Router,
    ) -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(BenchError::io("start a runtime"))?;
        let std = listener.into_std().map_err(BenchError::io("hand a socket over"))?;
        // as the service does it: a router that is served as it is, is copied whole for each connection
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(async move {
            let served = match TcpListener::from_std(std) {
                Ok(listener) => axum::serve(listener, router).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                eprintln!("bench: a server ended: {error}");
            }
        });
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // a runtime may not be waited for inside another
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) async fn listen() -> Result<(TcpListener, String), BenchError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::io("listen"))?;
    let address = listener.local_addr().map_err(BenchError::io("listen"))?;
    Ok((listener, format!("http://{address}")))
}

/// Makes offers and stores them.
pub(crate) struct Filler {
    generator: Generator,
    connection: PgConnection,
    heard_until: UnixSeconds,
    stored: u32,
}

impl Filler {
    pub(crate) async fn start(server: &Server, offers: u32, seed: u64) -> Result<Self, BenchError> {
        let mut connection = server.connect(WEIR).await?;
        let models = listings::models(&mut connection).await.map_err(BenchError::subject(DOING))?;
        let now = server.store(1).await?.now().seconds();
        let second = u32::try_from(now.get()).map_err(BenchError::subject(DOING))?;
        let generator = Generator::new(&models, seed, offers, second);
        let heard_until = now.saturating_plus(HEARD_FOR);
        Ok(Self { generator, connection, heard_until, stored: 0 })
    }

    /// Stores as many as are missing.
    pub(crate) async fn up_to(&mut self, offers: u32) -> Result<(), BenchError> {
        let began = Instant::now();
        while self.stored < offers {
            let missing = AT_ONCE.min(offers.saturating_sub(self.stored) as usize);
            let some: Vec<Listing> = self.generator.by_ref().take(missing).collect();
            if some.is_empty() {
                break;
            }
            listings::fill(&mut self.connection, &some, self.heard_until)
                .await
                .map_err(BenchError::subject(DOING))?;
            self.stored = self.stored.saturating_add(some.len() as u32);
        }
        eprintln!("bench: {offers} offers stored after {:?}", began.elapsed());
        Ok(())
    }
}

impl Filled {
    /// With what was stored.
    pub(crate) async fn start(server: &Server, filler: Filler) -> Result<Self, BenchError> {
        let Filler { mut connection, stored: offers, .. } = filler;
        let store = server.store(8).await?;
        let began = Instant::now();
        for statement in FLAT {
            sqlx::raw_sql(statement)
                .execute(&mut connection)
                .await
                .map_err(BenchError::sql(DOING))?;
        }
        eprintln!("bench: stored once more for PostgreSQL after {:?}", began.elapsed());
        let (listener, url) = listen().await?;
        let chain =
            ReadClient::connect("http://127.0.0.1:9").map_err(BenchError::subject(DOING))?;
        let image = server.folder().join("market.image");
        let config = || ApiConfig {
            limits: generous(),
            market_image: Some(image.clone()),
            ..ApiConfig::new(&url, 31_337)
        };
        let read = async |app: &AppState| {
            let began = Instant::now();
            tokio::time::timeout(READ_WITHIN, app.catch_up_with_market())
                .await
                .map_err(BenchError::subject(DOING))?
                .map_err(BenchError::subject(DOING))?;
            Ok::<_, BenchError>(began.elapsed())
        };
        let first = AppState::new(store.clone(), chain.clone(), config(), None);
        let read_in = read(&first).await?;
        first.keep_market().await;
        drop(first);
        let image_bytes =
            std::fs::metadata(&image).map_err(BenchError::io("write an image"))?.len();
        let app = AppState::new(store, chain, config(), None);
        let restored_in = read(&app).await?;
        let serving = Serving::start("bench-search", listener, api::router(app.clone()))?;
        Ok(Self { offers, app, read_in, restored_in, image_bytes, url, _server: serving })
    }
}

/// One table with an index for the query, as somebody would make it who has nothing but PostgreSQL.
const FLAT: [&str; 4] = [
    "CREATE TABLE flat AS
     SELECT o.id, v.usd_micros_per_hour AS price, v.model, v.chunks, m.ram_gb, m.cpu_cores, m.inet_up_mbps AS inet_up,
            m.pcie_mb_s AS pcie, split_part(m.region, '-', 1) AS country, r.score_bps AS reliability,
            r.ready_p95_ms AS ready_ms, m.last_heartbeat_at > now() AND m.service = 'open' AS live,
            COALESCE(g.gpus, 0) AS free
     FROM offers o JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
     JOIN machines m ON m.id = o.machine_id
     LEFT JOIN machine_reliability r ON r.machine_id = m.id AND r.window_days = 30
     LEFT JOIN (SELECT machine_id, count(*) AS gpus FROM gpus GROUP BY machine_id) g ON g.machine_id = m.id",
    "CREATE INDEX flat_by_price ON flat (price, id) INCLUDE
         (chunks, free, ram_gb, cpu_cores, inet_up, reliability, pcie, ready_ms, country, model) WHERE live",
    // all of it, and to the disk: else the server does both while searches are measured
    "VACUUM ANALYZE",
    "CHECKPOINT",
];
