//! The GPU models that rows point at: a copy of the program's own table, [`domain::catalog`].

use serde_json::{Value, json};

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
    /// As [`domain::catalog::Form`] writes it.
    pub form: String,
    /// Major and minor, such as `8.9`.
    pub compute_capability: String,
    /// Other spellings, among them what the driver reports; several models may share one.
    pub aliases: Vec<String>,
}

/// All models, by name: what this program knows, and what a newer one added.
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

/// Writes the program's models that are not there as it knows them, and returns how many. None is ever taken away:
/// rows point at them. Of two programs that disagree, the one that wrote last is right.
///
/// # Errors
/// The database's.
pub async fn fill(tx: &mut Connection) -> Result<u64, StoreError> {
    let models: Vec<Value> = domain::catalog::models()
        .iter()
        .map(|model| {
            json!({
                "slug": model.slug, "name": model.name, "vendor": model.vendor, "vram_gb": model.vram_gb,
                "form": model.form, "compute_capability": model.compute_capability,
                "aliases": model.aliases, "status": model.status, "fp32_gflops": model.fp32_gflops,
                "fp16_gflops": model.fp16_gflops, "memory_gb_s": model.memory_gb_s,
            })
        })
        .collect();
    let written = sqlx::query!(
        "INSERT INTO gpu_models AS g (slug, name, vendor, vram_gb, form, compute_capability, aliases, status,
                                      fp32_gflops, fp16_gflops, memory_gb_s)
         SELECT m.slug, m.name, m.vendor, m.vram_gb, m.form, m.compute_capability, m.aliases, m.status,
                m.fp32_gflops, m.fp16_gflops, m.memory_gb_s
         FROM jsonb_to_recordset($1) AS m (
             slug text, name text, vendor text, vram_gb integer, form text, compute_capability text,
             aliases text[], status text, fp32_gflops integer, fp16_gflops integer, memory_gb_s integer)
         ORDER BY m.slug
         ON CONFLICT (slug) DO UPDATE SET
             name = excluded.name, vendor = excluded.vendor, vram_gb = excluded.vram_gb, form = excluded.form,
             compute_capability = excluded.compute_capability, aliases = excluded.aliases,
             status = excluded.status, fp32_gflops = excluded.fp32_gflops, fp16_gflops = excluded.fp16_gflops,
             memory_gb_s = excluded.memory_gb_s
         WHERE (g.name, g.vendor, g.vram_gb, g.form, g.compute_capability, g.aliases, g.status, g.fp32_gflops,
                g.fp16_gflops, g.memory_gb_s)
             IS DISTINCT FROM
               (excluded.name, excluded.vendor, excluded.vram_gb, excluded.form, excluded.compute_capability,
                excluded.aliases, excluded.status, excluded.fp32_gflops, excluded.fp16_gflops,
                excluded.memory_gb_s)",
        Value::Array(models),
    )
    .execute(tx)
    .await?;
    Ok(written.rows_affected())
}
