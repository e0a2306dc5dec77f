//! Templates: what runs on a rented machine.

use alloy::primitives::hex;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::{
    id::AccountId,
    template::{Content, Port, Protocol, is_slug},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::templates::{self, Listed, Template};
use utoipa::{IntoParams, ToSchema};

use super::KEEP_S;
use crate::{
    AppState, Code, Problem, cache, cursor,
    extract::{Body, Id, Parameters, Params},
    identity::Wallet,
    problem::refuse,
    views::{Time, page_limit},
};

/// The most versions of templates that an account may make: they stay for ever.
const MAX_VERSIONS: i64 = 200;
/// How long a list of what accounts may add to may be kept.
const KEEP_LIST_S: u32 = 60;
const LIST: &str = "templates";

/// A port that is opened.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortView {
    /// What listens there: 1 to 32 of a-z, 0-9 and -.
    #[schema(example = "ssh")]
    name: String,
    #[schema(example = 22)]
    port: u16,
    /// `tcp` or `udp`.
    #[schema(value_type = String, example = "tcp")]
    protocol: Protocol,
}

/// A version of a template; it never changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplateView {
    #[schema(example = "pytorch")]
    slug: String,
    #[schema(example = 1)]
    version: u32,
    /// The account that made it; null for the platform's own.
    #[schema(value_type = Option<String>)]
    account: Option<AccountId>,
    #[schema(example = "PyTorch 2.8, CUDA 12.8")]
    name: String,
    /// A container image with a tag or a digest.
    #[schema(example = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime")]
    image: String,
    ports: Vec<PortView>,
    /// Environment variables, which are public.
    env: BTreeMap<String, String>,
    #[schema(example = 40)]
    disk_gb: u32,
    /// Memory of one GPU that it needs.
    #[schema(example = 8)]
    min_vram_gb: u32,
    /// Markdown.
    readme: String,
    /// SHA-256, in hex, of the JSON of `disk_gb`, `env`, `image`, `min_vram_gb`, `name`, `ports` and `readme` with
    /// members in the order of their names and without spaces.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    content_hash: String,
    created_at: Time,
}

impl From<Template> for TemplateView {
    fn from(template: Template) -> Self {
        let Template { slug, version, account, content, content_hash, created_at } = template;
        let port = |Port { name, port, protocol }| PortView { name, port, protocol };
        Self {
            slug,
            version,
            account,
            name: content.name,
            image: content.image,
            ports: content.ports.into_iter().map(port).collect(),
            env: content.env,
            disk_gb: content.disk_gb,
            min_vram_gb: content.min_vram_gb,
            readme: content.readme,
            content_hash: format!("sha256:{}", hex::encode(content_hash)),
            created_at: Time(created_at),
        }
    }
}

/// A template in a list; its readme and environment are at `/v1/templates/{slug}`.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplateRow {
    #[schema(example = "pytorch")]
    slug: String,
    #[schema(example = 1)]
    version: u32,
    /// The account that made it; null for the platform's own.
    #[schema(value_type = Option<String>)]
    account: Option<AccountId>,
    #[schema(example = "PyTorch 2.8, CUDA 12.8")]
    name: String,
    /// A container image with a tag or a digest.
    #[schema(example = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime")]
    image: String,
    ports: Vec<PortView>,
    #[schema(example = 40)]
    disk_gb: u32,
    /// Memory of one GPU that it needs.
    #[schema(example = 8)]
    min_vram_gb: u32,
    /// As in the template itself.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    content_hash: String,
    created_at: Time,
}

impl From<Listed> for TemplateRow {
    fn from(listed: Listed) -> Self {
        let port = |Port { name, port, protocol }| PortView { name, port, protocol };
        Self {
            slug: listed.slug,
            version: listed.version,
            account: listed.account,
            name: listed.name,
            image: listed.image,
            ports: listed.ports.into_iter().map(port).collect(),
            disk_gb: listed.disk_gb,
            min_vram_gb: listed.min_vram_gb,
            content_hash: format!("sha256:{}", hex::encode(listed.content_hash)),
            created_at: Time(listed.created_at),
        }
    }
}

/// A page of templates.
#[derive(Serialize, ToSchema)]
pub(crate) struct TemplatePage {
    data: Vec<TemplateRow>,
    /// For the next page, if there may be one.
    next_cursor: Option<String>,
}

/// Which templates.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TemplateParams {
    /// `platform` leaves out what accounts made.
    owner: Option<String>,
    /// 1 to 200; 50 if left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Parameters for TemplateParams {
    const NAMES: &'static [&'static str] = &["owner", "limit", "cursor"];
}

/// The newest version of each template.
#[utoipa::path(get, path = "/v1/templates", tag = "market", params(TemplateParams),
    responses((status = 200, body = TemplatePage), (status = 304, description = "The caller has it already.")))]
pub(super) async fn list(
    State(app): State<AppState>,
    headers: HeaderMap,
    Params(params): Params<TemplateParams>,
) -> Result<Response, Problem> {
    let platform_only = match params.owner.as_deref() {
        None => false,
        Some("platform") => true,
        Some(_) => {
            let detail = "owner is platform or left out";
            return Err(Problem::new(Code::InvalidRequest, detail).at("?owner", detail));
        }
    };
    let list = if platform_only { "templates:platform" } else { LIST };
    let limit = page_limit(params.limit)?;
    let after = match &params.cursor {
        Some(cursor) => {
            let [slug] = cursor::read::<1>(list, cursor)?;
            // what can be no name is not even a text to the database
            Some(slug).filter(|slug| is_slug(slug)).ok_or_else(cursor::invalid).map(Some)?
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    let found =
        templates::list(&mut connection, platform_only, after.as_deref(), i64::from(limit)).await?;
    drop(connection);
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|template| template.slug.clone());
    let next_cursor = last.map(|slug| cursor::write(list, &[slug]));
    let data = found.into_iter().map(TemplateRow::from).collect();
    cache::json(&headers, KEEP_LIST_S, &TemplatePage { data, next_cursor })
}

/// The newest version of a template, or another as `slug@version`.
#[utoipa::path(get, path = "/v1/templates/{slug}", tag = "market",
    params(("slug" = String, Path, example = "pytorch@1")),
    responses((status = 200, body = TemplateView), (status = 304, description = "The caller has it already.")))]
pub(super) async fn read(
    State(app): State<AppState>,
    headers: HeaderMap,
    Id(name): Id<String>,
) -> Result<Response, Problem> {
    let (slug, version) = match name.split_once('@') {
        None => (name.as_str(), None),
        Some((slug, version)) => {
            (slug, Some(version.parse().map_err(|_| Problem::not_found("template"))?))
        }
    };
    if !is_slug(slug) {
        return Err(Problem::not_found("template"));
    }
    let mut connection = app.store.read().await?;
    let found = templates::get(&mut connection, slug, version).await?;
    let found = found.ok_or_else(|| Problem::not_found("template"))?;
    // a version never changes, the newest may be another tomorrow
    let keep = if version.is_some() { KEEP_S } else { KEEP_LIST_S };
    cache::json(&headers, keep, &TemplateView::from(found))
}

/// A template to be made, or its next version.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "slug": "trainer", "name": "My trainer", "image": "ghcr.io/me/trainer:1.4", "disk_gb": 60, "min_vram_gb": 24,
    "ports": [{"name": "ssh", "port": 22, "protocol": "tcp"}], "env": {"MODE": "fast"}, "readme": "# Trainer",
}))]
pub(crate) struct TemplateRequest {
    /// 2 to 48 lowercase letters and digits with single hyphens between; it gets a prefix of the account's address.
    slug: String,
    /// 1 to 64 characters.
    name: String,
    /// A container image with a tag or a digest.
    image: String,
    /// 1 to 65,536.
    disk_gb: u32,
    /// Memory of one GPU that it needs, 0 to 1,024; 0 if left out.
    #[serde(default)]
    min_vram_gb: u32,
    /// At most 64.
    #[serde(default)]
    ports: Vec<PortView>,
    /// At most 64, and 32,768 bytes. They are public: no place for secrets. Names that begin with `WEIR_`, `CUDA_` or `NVIDIA_`
    /// are the machine's own and are not taken from here.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Markdown, at most 16,384 characters.
    #[serde(default)]
    readme: String,
}

impl TemplateRequest {
    fn content(self) -> Content {
        let port = |PortView { name, port, protocol }| Port { name, port, protocol };
        Content {
            disk_gb: self.disk_gb,
            env: self.env,
            image: self.image,
            min_vram_gb: self.min_vram_gb,
            name: self.name,
            ports: self.ports.into_iter().map(port).collect(),
            readme: self.readme,
        }
    }
}

/// Makes a template of the caller's, or its next version. The same content again makes none and answers 200.
#[utoipa::path(post, path = "/v1/templates", tag = "market", security(("bearer" = [])),
    request_body = TemplateRequest,
    responses((status = 201, body = TemplateView), (status = 200, body = TemplateView)))]
pub(super) async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<TemplateRequest>,
) -> Result<(StatusCode, Json<TemplateView>), Problem> {
    if !is_slug(&request.slug) || request.slug.len() > 48 {
        let message = "2 to 48 lowercase letters and digits with single hyphens between";
        return Err(Problem::invalid("/slug", message));
    }
    // nobody's name can be taken by somebody else, nor by the platform later
    let owner = hex::encode(wallet.account.address);
    let slug = format!("{}-{}", owner.get(..8).unwrap_or(&owner), request.slug);
    let content = request.content();
    content.check().map_err(|error| Problem::invalid(error.pointer, error.message))?;
    let content_hash = templates::content_hash(&content)?;
    let (account, now) = (wallet.account.id, app.now());
    let (status, made) = app
        .store
        .write("templates.create", move |tx| {
            let (slug, content) = (slug.clone(), content.clone());
            Box::pin(async move {
                let newest = templates::get(tx, &slug, None).await?;
                if let Some(newest) = &newest {
                    if newest.account != Some(account) {
                        let detail = "an account whose address begins alike has this name";
                        return refuse(
                            Problem::new(Code::AlreadyExists, detail).at("/slug", detail),
                        );
                    }
                    if newest.content_hash == content_hash {
                        return Ok((StatusCode::OK, newest.clone()));
                    }
                }
                if templates::count_of(tx, account).await? >= MAX_VERSIONS {
                    let detail = format!("an account may make {MAX_VERSIONS} versions");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let version = newest.map_or(1, |newest| newest.version.saturating_add(1));
                let account = Some(account);
                let made =
                    Template { slug, version, account, content, content_hash, created_at: now };
                if !templates::insert(tx, &made).await? {
                    let detail = "another version of it was made at the same moment";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                Ok((StatusCode::CREATED, made))
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((status, Json(made.into())))
}
