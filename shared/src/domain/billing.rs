//! Work of the billing queue. Every piece is idempotent.

use crate::domain::account::S3Uid;
use crate::domain::client::ClientId;
use crate::domain::invoice::InvoiceId;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// One piece of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum BillingWork {
    /// Close the account's period that ends on this commit date.
    Close {
        /// Which account.
        s3uid: S3Uid,
        /// The period's end.
        commits_on: Date,
    },
    /// Take the next step of an account's end.
    End {
        /// Which account.
        s3uid: S3Uid,
    },
    /// Take the next step of chasing an open invoice.
    Chase {
        /// Who owes.
        client_id: ClientId,
        /// When it was due.
        due_on: Date,
        /// Which invoice.
        invoice_id: InvoiceId,
    },
    /// Pay a client's open invoices from its credit, and lift suspensions.
    Settle {
        /// Which client.
        client_id: ClientId,
    },
    /// Have an account's cluster do what the account's record says.
    #[serde(rename = "conform")]
    UpdateCluster {
        /// Which account.
        s3uid: S3Uid,
    },
    /// Bring a client's accounts to its email and billing group.
    Regroup {
        /// Which client.
        client_id: ClientId,
    },
    /// Recount the balances of the clients with these numbers.
    Recount {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl BillingWork {
    /// Whose work it is: messages of one group do not hold up those of another. Accounts are best grouped by their location, by whoever
    /// knows it: a cluster that does not answer holds up the work that tells it something.
    #[must_use]
    pub fn group(&self) -> String {
        match self {
            BillingWork::Close { s3uid, .. }
            | BillingWork::End { s3uid }
            | BillingWork::UpdateCluster { s3uid } => s3uid.to_string(),
            BillingWork::Chase { client_id, .. }
            | BillingWork::Settle { client_id }
            | BillingWork::Regroup { client_id } => format!("client:{client_id}"),
            BillingWork::Recount { .. } => "recount".to_owned(),
        }
    }
}
