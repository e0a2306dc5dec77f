//! Whose thing each operation is about. What follows for each role is in [`Row::cell`].

use super::role::Role;

/// Whose thing an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    Public,
    /// A secret or signature in the body says who asks.
    Proof,
    /// The caller's own, whoever that is: a list of what is theirs, or something new.
    Own,
    /// The caller's own, and whoever has no account gets the price of one and pays it (x402).
    Paid,
    /// Of the account that made it: the renter's session, key or quote.
    Renters,
    /// Of both sides of a rental.
    Parties,
    /// Of the rental's renter; its provider is told that it is not theirs to do.
    RentersPart,
    /// Of the rental's renter; to its provider it is not there.
    RentersAlone,
    /// Of the provider: a machine or an offer.
    Providers,
    /// Of the agent of the machine.
    Machines,
    /// Of any agent: about its own machine.
    AnyAgents,
}

impl Whose {
    /// How the OpenAPI document says who may.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Public | Self::Proof => "anybody",
            Self::Machines | Self::AnyAgents => "agent",
            Self::Own
            | Self::Paid
            | Self::Renters
            | Self::Parties
            | Self::RentersPart
            | Self::RentersAlone
            | Self::Providers => "wallet",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It needs nobody.
    Anybody,
    /// It is about their own things.
    OfTheirOwn,
    /// It is theirs to do.
    Yes,
    /// It is refused, with this status.
    Refused(u16),
}

/// An operation.
pub struct Row {
    pub method: &'static str,
    pub path: &'static str,
    pub whose: Whose,
}

impl Row {
    /// What becomes of this operation on the cast's things, where keys need this scope.
    pub fn cell(&self, role: Role, scope: Option<&str>) -> Cell {
        use Whose::{
            AnyAgents, Machines, Own, Paid, Parties, Proof, Providers, Public, Renters,
            RentersAlone, RentersPart,
        };

        match (self.whose, role) {
            (Public | Proof, _) => return Cell::Anybody,
            (Paid, Role::Nobody) => return Cell::Refused(402),
            (_, Role::Nobody) => return Cell::Refused(401),
            // it is no session, and no key
            (AnyAgents | Machines, Role::Token) => return Cell::Refused(401),
            // and good for its rental and the cases about it
            (_, Role::Token)
                if !["/v1/rentals/{id}", "/v1/disputes"]
                    .iter()
                    .any(|place| self.path.starts_with(place)) =>
            {
                return Cell::Refused(403);
            }
            (AnyAgents, Role::OtherAgent) => return Cell::OfTheirOwn,
            (Machines, Role::OtherAgent) => return Cell::Refused(404),
            (AnyAgents | Machines, Role::Agent) => return Cell::Yes,
            (AnyAgents | Machines, _) | (_, Role::Agent | Role::OtherAgent) => {
                return Cell::Refused(403);
            }
            (_, Role::OwnersKeyWithoutScope) => return Cell::Refused(403),
            (_, Role::OthersKey) if scope.is_none() => return Cell::Refused(403),
            (_, Role::LimitedKey) if !self.is_limited_to_others(scope) => return Cell::OfTheirOwn,
            (_, Role::LimitedKey) => return Cell::Refused(403),
            _ => {}
        }
        match (self.whose, role) {
            (Own | Paid, _) => Cell::OfTheirOwn,
            (Parties, Role::Renter | Role::Token | Role::Provider)
            | (Renters | RentersPart | RentersAlone, Role::Renter | Role::Token)
            | (Providers, Role::Provider) => Cell::Yes,
            (RentersPart, Role::Provider) => Cell::Refused(403),
            _ => Cell::Refused(404),
        }
    }

    /// Whether a key that is limited to another machine is kept from this: one that a thing is named for, one that tells
    /// of everything, or one whose scope it cannot have.
    fn is_limited_to_others(&self, scope: Option<&str>) -> bool {
        let whole = ["/v1/events", "/v1/webhooks"];
        let unlimited = scope.is_none_or(|scope| UNLIMITED.contains(&scope));
        let opens = (self.method, self.path) == ("POST", "/v1/disputes");
        unlimited || opens || self.path.contains("{id}") || whole.contains(&self.path)
    }
}

/// Scopes that no limited key has.
pub const UNLIMITED: &[&str] = &["billing:read", "templates:write"];

const fn row(method: &'static str, path: &'static str, whose: Whose) -> Row {
    Row { method, path, whose }
}

#[rustfmt::skip] // a table: one line each
pub const ROWS: &[Row] = &[
    row("GET", "/errors", Whose::Public),
    row("GET", "/errors/{code}", Whose::Public),
    row("GET", "/healthz", Whose::Public),
    row("GET", "/metrics", Whose::Public),
    row("GET", "/readyz", Whose::Public),
    row("POST", "/v1/agent/challenge", Whose::Public),
    row("GET", "/v1/agent/commands", Whose::AnyAgents),
    row("POST", "/v1/agent/commands/{id}/ack", Whose::Machines),
    row("POST", "/v1/agent/enroll", Whose::Proof),
    row("POST", "/v1/agent/heartbeats", Whose::AnyAgents),
    row("POST", "/v1/agent/readings", Whose::Machines),
    row("POST", "/v1/agent/rentals/{id}/access", Whose::Machines),
    row("POST", "/v1/agent/rentals/{id}/ready", Whose::Machines),
    row("POST", "/v1/agent/self-tests/{id}", Whose::Machines),
    row("POST", "/v1/agent/session", Whose::Proof),
    row("GET", "/v1/api-keys", Whose::Own),
    row("POST", "/v1/api-keys", Whose::Own),
    row("DELETE", "/v1/api-keys/{id}", Whose::Renters),
    row("POST", "/v1/auth/logout", Whose::Own),
    row("POST", "/v1/auth/siwe/nonce", Whose::Public),
    row("POST", "/v1/auth/siwe/verify", Whose::Proof),
    row("GET", "/v1/catalog.csv", Whose::Public),
    row("GET", "/v1/deployment", Whose::Public),
    row("POST", "/v1/deliveries/{id}/redeliver", Whose::Renters),
    row("GET", "/v1/disputes", Whose::Own),
    row("POST", "/v1/disputes", Whose::Own),
    row("GET", "/v1/disputes/{id}", Whose::Parties),
    row("POST", "/v1/disputes/{id}/accept", Whose::Parties),
    row("POST", "/v1/disputes/{id}/evidence", Whose::Parties),
    row("POST", "/v1/disputes/{id}/propose", Whose::Parties),
    row("POST", "/v1/disputes/{id}/withdraw", Whose::RentersPart),
    row("GET", "/v1/escrow/{id}", Whose::Public),
    row("POST", "/v1/estimates", Whose::Public),
    row("GET", "/v1/events", Whose::Own),
    row("GET", "/v1/gpu-models", Whose::Public),
    row("GET", "/v1/gpu-models/{slug}", Whose::Public),
    row("GET", "/v1/invoices/{id}", Whose::Parties),
    row("GET", "/v1/ledger", Whose::Own),
    row("GET", "/v1/machines", Whose::Own),
    row("POST", "/v1/machines", Whose::Own),
    row("GET", "/v1/machines/{id}", Whose::Providers),
    row("PATCH", "/v1/machines/{id}", Whose::Providers),
    row("DELETE", "/v1/machines/{id}/agent-key", Whose::Providers),
    row("GET", "/v1/machines/{id}/checks", Whose::Public),
    row("POST", "/v1/machines/{id}/drain", Whose::Providers),
    row("POST", "/v1/machines/{id}/enroll-token", Whose::Providers),
    row("GET", "/v1/machines/{id}/history", Whose::Public),
    row("GET", "/v1/machines/{id}/maintenance", Whose::Providers),
    row("POST", "/v1/machines/{id}/maintenance", Whose::Providers),
    row("DELETE", "/v1/machines/{id}/maintenance/{window}", Whose::Providers),
    row("GET", "/v1/machines/{id}/public", Whose::Public),
    row("GET", "/v1/machines/{id}/reliability", Whose::Public),
    row("POST", "/v1/machines/{id}/retire", Whose::Providers),
    row("GET", "/v1/machines/{id}/reviews", Whose::Public),
    row("POST", "/v1/machines/{id}/undrain", Whose::Providers),
    row("POST", "/v1/machines/{id}/verify", Whose::Providers),
    row("GET", "/v1/market/book/{model}", Whose::Public),
    row("GET", "/v1/market/prices", Whose::Public),
    row("GET", "/v1/market/prices/{model}/history", Whose::Public),
    row("GET", "/v1/market/supply", Whose::Public),
    row("POST", "/v1/match", Whose::Public),
    row("GET", "/v1/me", Whose::Own),
    row("GET", "/v1/offers", Whose::Public),
    row("POST", "/v1/offers", Whose::Own),
    row("POST", "/v1/offers/bulk", Whose::Own),
    row("GET", "/v1/offers/stream", Whose::Public),
    row("DELETE", "/v1/offers/{id}", Whose::Providers),
    row("GET", "/v1/offers/{id}", Whose::Public),
    row("PATCH", "/v1/offers/{id}", Whose::Providers),
    row("GET", "/v1/provider/earnings", Whose::Own),
    row("GET", "/v1/provider/offers", Whose::Own),
    row("GET", "/v1/provider/payouts", Whose::Own),
    row("GET", "/v1/provider/reliability", Whose::Own),
    row("POST", "/v1/quotes", Whose::Own),
    row("GET", "/v1/quotes/{id}", Whose::Renters),
    row("GET", "/v1/reference-prices", Whose::Public),
    row("GET", "/v1/regions", Whose::Public),
    row("GET", "/v1/rentals", Whose::Own),
    row("POST", "/v1/rentals", Whose::Paid),
    row("POST", "/v1/rentals/group", Whose::Own),
    row("GET", "/v1/rentals/{id}", Whose::Parties),
    row("PATCH", "/v1/rentals/{id}", Whose::RentersPart),
    row("POST", "/v1/rentals/{id}/authorization", Whose::RentersPart),
    row("GET", "/v1/rentals/{id}/cost", Whose::Parties),
    row("GET", "/v1/rentals/{id}/end", Whose::Parties),
    row("POST", "/v1/rentals/{id}/end", Whose::Parties),
    row("GET", "/v1/rentals/{id}/escrow", Whose::Parties),
    row("GET", "/v1/rentals/{id}/events", Whose::Parties),
    row("GET", "/v1/rentals/{id}/readings", Whose::Parties),
    row("GET", "/v1/rentals/{id}/receipt", Whose::Parties),
    row("POST", "/v1/rentals/{id}/review", Whose::RentersAlone),
    row("GET", "/v1/rentals/{id}/sealed-receipt", Whose::Parties),
    row("GET", "/v1/rentals/{id}/ssh-keys", Whose::RentersPart),
    row("PUT", "/v1/rentals/{id}/ssh-keys", Whose::RentersPart),
    row("POST", "/v1/rentals/{id}/stop", Whose::Parties),
    row("GET", "/v1/rentals/{id}/timeline", Whose::Parties),
    row("DELETE", "/v1/rentals/{id}/tokens", Whose::RentersPart),
    row("POST", "/v1/rentals/{id}/top-up", Whose::Parties),
    row("DELETE", "/v1/sessions", Whose::Own),
    row("GET", "/v1/sessions", Whose::Own),
    row("DELETE", "/v1/sessions/{id}", Whose::Renters),
    row("GET", "/v1/settlements", Whose::Own),
    row("GET", "/v1/ssh-keys", Whose::Own),
    row("POST", "/v1/ssh-keys", Whose::Own),
    row("DELETE", "/v1/ssh-keys/{id}", Whose::Renters),
    row("GET", "/v1/status", Whose::Public),
    row("GET", "/v1/templates", Whose::Public),
    row("POST", "/v1/templates", Whose::Own),
    row("GET", "/v1/templates/{slug}", Whose::Public),
    row("GET", "/v1/tokens", Whose::Public),
    row("GET", "/v1/webhooks", Whose::Own),
    row("POST", "/v1/webhooks", Whose::Own),
    row("DELETE", "/v1/webhooks/{id}", Whose::Renters),
    row("GET", "/v1/webhooks/{id}", Whose::Renters),
    row("PATCH", "/v1/webhooks/{id}", Whose::Renters),
    row("GET", "/v1/webhooks/{id}/deliveries", Whose::Renters),
    row("POST", "/v1/webhooks/{id}/rotate-secret", Whose::Renters),
    row("POST", "/v1/webhooks/{id}/test", Whose::Renters),
];
