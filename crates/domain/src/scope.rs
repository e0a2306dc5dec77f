//! What an API key may be allowed to do. A key holds some of these; a wallet that has signed in may do everything.

use crate::names::named_enum;

named_enum! {
    /// One kind of thing that a key may do. Its name is shown to people and stored.
    pub enum Scope ("scope") {
        /// See whose key it is.
        AccountRead => "account:read",
        /// Say whose agent a machine has: renew its enrolment token, take its key away.
        AgentsWrite => "agents:write",
        /// Read the ledger and the earnings of the whole account.
        BillingRead => "billing:read",
        /// Open cases about rentals, show evidence, propose and accept ends, take cases back.
        DisputesWrite => "disputes:write",
        /// Read machines and what is offered of them.
        MachinesRead => "machines:read",
        /// Register, change, verify, drain and retire machines.
        MachinesWrite => "machines:write",
        /// List, change and withdraw offers.
        OffersWrite => "offers:write",
        /// Read quotes, rentals and cases about them, follow them, and see the SSH keys to rent with.
        RentalsRead => "rentals:read",
        /// Ask for quotes, book, sign, review and stop rentals, and say which SSH keys reach them.
        RentalsWrite => "rentals:write",
        /// Publish templates.
        TemplatesWrite => "templates:write",
        /// Say whom to call when something happens, and look at the calls.
        WebhooksWrite => "webhooks:write",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_by_its_name_only() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse::<Scope>().unwrap(), *scope);
        }
        for text in ["", "admin", "rentals", "Rentals:read", "rentals:read "] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
