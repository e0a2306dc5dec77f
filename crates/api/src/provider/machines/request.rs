//! What a machine is registered with.

use domain::offer::GpuModelSlug;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{Code, Problem};

/// The most GPUs in one machine.
const MAX_GPUS: usize = 64;

/// A machine to be registered.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineRequest {
    /// The owner's name for it, 1 to 64 characters.
    #[schema(example = "rack-7")]
    pub(super) name: String,
    /// A country code and what is inside it, such as `de-fra`.
    #[schema(example = "de-fra")]
    pub(super) region: String,
    /// 1 to 4,096.
    #[schema(example = 32)]
    pub(super) cpu_cores: u32,
    /// 1 to 65,536.
    #[schema(example = 256)]
    pub(super) ram_gb: u32,
    /// 1 to 1,048,576.
    #[schema(example = 2000)]
    pub(super) disk_gb: u32,
    /// 1 to 64, all of one model.
    pub(super) gpus: Vec<GpuRequest>,
}

/// A GPU to be registered.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpuRequest {
    /// The vendor's UUID, as the driver reports it: 8 to 64 characters.
    #[schema(example = "GPU-5f0c2a86-0f7d-4a1e-9c53-8f1d2b7a6e40")]
    pub(super) uuid: String,
    /// One of `/v1/gpu-models`.
    #[schema(value_type = String, example = "rtx-4090")]
    pub(super) model: GpuModelSlug,
}

/// Checks all fields, and names every one that is wrong.
///
/// # Errors
/// [`Code::ValidationFailed`].
pub(super) fn validate(request: &MachineRequest) -> Result<(), Problem> {
    let mut problem = Problem::new(Code::ValidationFailed, "the machine is not acceptable");
    let mut wrong = false;
    let mut check = |ok: bool, pointer: &str, message: &str| {
        if !ok {
            wrong = true;
            problem = problem.clone().at(pointer, message);
        }
    };
    let name = request.name.chars().count();
    let plain = !request.name.chars().any(char::is_control);
    check(plain && (1..=64).contains(&name), "/name", "1 to 64 characters, none a control");
    check(is_region(&request.region), "/region", "a country code and parts, such as de-fra");
    check((1..=4_096).contains(&request.cpu_cores), "/cpu_cores", "1 to 4096");
    check((1..=65_536).contains(&request.ram_gb), "/ram_gb", "1 to 65536");
    check((1..=1_048_576).contains(&request.disk_gb), "/disk_gb", "1 to 1048576");
    check((1..=MAX_GPUS).contains(&request.gpus.len()), "/gpus", "1 to 64 GPUs");
    let first = request.gpus.first().map(|gpu| &gpu.model);
    let mut seen = Vec::new();
    for (index, gpu) in request.gpus.iter().take(MAX_GPUS).enumerate() {
        let plain = gpu.uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let uuid = format!("/gpus/{index}/uuid");
        check(
            plain && (8..=64).contains(&gpu.uuid.len()),
            &uuid,
            "8 to 64 letters, digits and hyphens",
        );
        check(!seen.contains(&&gpu.uuid), &uuid, "the same GPU twice");
        // a rental takes any free GPUs of its machine, so all must be what the offer says
        let model = format!("/gpus/{index}/model");
        check(Some(&gpu.model) == first, &model, "all GPUs of a machine are of one model");
        seen.push(&gpu.uuid);
    }
    if wrong { Err(problem) } else { Ok(()) }
}

/// Two letters, then parts of letters and digits behind hyphens, 32 characters at most.
pub(crate) fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let country = parts.next().unwrap_or_default();
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.len() <= 32
        && country.len() == 2
        && country.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(word)
}
