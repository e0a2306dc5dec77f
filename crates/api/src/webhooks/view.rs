//! Webhooks and deliveries as their owner sees them.

use domain::id::{DeliveryId, EventId, WebhookId};
use serde::Serialize;
use store::webhooks::{Webhook, deliveries::Delivery};
use utoipa::ToSchema;

use crate::views::Time;

/// A webhook.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookView {
    #[schema(value_type = String, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: WebhookId,
    #[schema(example = "https://hooks.example.com/weir")]
    url: String,
    #[schema(example = json!(["rental.ready", "rental.ended", "settlement.final"]))]
    events: Vec<String>,
    #[schema(example = "billing")]
    description: String,
    /// Whether it is called.
    enabled: bool,
    /// Why not.
    disabled_reason: Option<String>,
    disabled_at: Option<Time>,
    /// Since when nothing came through; after three days it is disabled.
    failing_since: Option<Time>,
    created_at: Time,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        let (disabled_reason, disabled_at) = webhook.disabled.unzip();
        Self {
            id: webhook.id,
            url: webhook.url,
            events: webhook.events,
            description: webhook.description,
            enabled: disabled_reason.is_none(),
            disabled_reason,
            disabled_at: disabled_at.map(Time),
            failing_since: webhook.failing_since.map(Time),
            created_at: Time(webhook.created_at),
        }
    }
}

/// All webhooks of an account.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookList {
    pub(super) data: Vec<WebhookView>,
}

/// A webhook with its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookSecret {
    pub(super) webhook: WebhookView,
    /// `whsec_` and base64 of the key, as libraries for Standard Webhooks take it; shown once.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD2sVJjZkSt+E=")]
    pub(super) secret: String,
    /// Until when the old secret signs too.
    pub(super) old_secret_until: Option<Time>,
}

/// An event for a webhook.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    #[schema(value_type = String, example = "dlv_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: DeliveryId,
    #[schema(value_type = String, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    webhook_id: WebhookId,
    /// What is sent as `webhook-id`, the same with every try.
    #[schema(value_type = String, example = "evt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    event_id: EventId,
    #[schema(example = "rental.ready")]
    event: String,
    /// `pending`, `delivered` or `failed`.
    #[schema(example = "delivered")]
    state: String,
    /// How often it was tried.
    #[schema(example = 1)]
    attempts: u32,
    /// When it is tried next.
    next_at: Option<Time>,
    last_at: Option<Time>,
    /// What was answered last.
    #[schema(example = 200)]
    last_status: Option<u16>,
    /// What went wrong last.
    last_error: Option<String>,
    delivered_at: Option<Time>,
    created_at: Time,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook,
            event_id: delivery.event,
            event: delivery.kind,
            state: delivery.state,
            attempts: delivery.attempts,
            next_at: delivery.due_at.map(Time),
            last_at: delivery.last_at.map(Time),
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            delivered_at: delivery.delivered_at.map(Time),
            created_at: Time(delivery.created_at),
        }
    }
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryPage {
    pub(super) data: Vec<DeliveryView>,
    pub(super) next_cursor: Option<String>,
}
