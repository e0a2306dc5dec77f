//! P5, P6, P7: search over a large generated market. What a search costs the server beside an axum that says hello; what
//! an unsatisfiable one takes beside PostgreSQL on the same data; how costs grow with the market; what the index weighs;
//! how soon a commit is found.

mod cost;
mod facts;
mod market_data;
mod plain;

pub use cost::Cost;
pub(crate) use cost::on_cpu;
pub(crate) use facts::{SIZES, growth, slope, visible};
pub(crate) use market_data::{Filled, Filler, Serving, listen};
pub use plain::{InMemory, Plain};

/// What a renter asks: eight filters.
pub(crate) const TYPICAL: &str = "gpu_model=rtx-4090,rtx-5090,rtx-a6000&gpu_count=2&ram_gb_gte=64&cpu_cores_gte=16\
     &inet_up_gte=100&reliability_gte=0.95&tier=verified,datacenter&region=de,se,nl,fr&limit=50";
/// Eight filters, each of which some offers satisfy, and none all; no model and no price, so that nothing is left out
/// before it is looked at.
pub(crate) const WORST: &str = "gpu_count=8&ram_gb_gte=1900&cpu_cores_gte=180&inet_up_gte=9500&reliability_gte=0.999\
     &pcie_bw_gte=26000&ready_p95_lte=4.2&country=is,za&limit=50";
/// The same in SQL, on the flat table that [`Filled`] makes for PostgreSQL.
pub(crate) const WORST_SQL: &str = "SELECT id, price FROM flat
     WHERE live AND 8 = ANY(chunks) AND free >= 8 AND ram_gb >= 1900 AND cpu_cores >= 180 AND inet_up >= 9500
       AND reliability >= 9990 AND pcie >= 26000 AND ready_ms <= 4200 AND country IN ('is', 'za')
     ORDER BY price, id LIMIT 50";
