//! The GPU models that can be offered.

use crate::{Connection, StoreError};

/// A model of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuModel {
    /// Its name in addresses and filters.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// Its memory in GB.
    pub vram_gb: u32,
    /// `pcie`, `sxm` or `nvl`.
    pub form: String,
    /// CUDA compute capability, such as `8.9`.
    pub compute_capability: String,
    /// Other spellings, among them what the driver reports.
    pub aliases: Vec<String>,
}

/// All models, by name.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(connection: &mut Connection) -> Result<Vec<GpuModel>, StoreError> {
    sqlx::query!(
        "SELECT slug, name, vendor, vram_gb, form, compute_capability, aliases
         FROM gpu_models ORDER BY slug"
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(GpuModel {
            slug: row.slug,
            name: row.name,
            vendor: row.vendor,
            vram_gb: u32::try_from(row.vram_gb).map_err(StoreError::corrupt)?,
            form: row.form,
            compute_capability: row.compute_capability,
            aliases: row.aliases,
        })
    })
    .collect()
}
