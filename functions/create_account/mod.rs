//! `create_account`: orders an S3 account and leaves its invoice open.

use wharfage::context::Context;
use wharfage::domain::order::Payment;
use wharfage::error::Error;
use wharfage::http::subject::Call;

use crate::provisioning::{self, Answered, Asked, Ordered, ordered};

crate::action! {
    /// Orders an account on invoice. Credit pays what it can; the rest stays open.
    ///
    /// Its error messages begin with `s3/create_order`.
    "create_account" speaks as "create_order" of Everybody, about (), with ordered,
        refuses [CreditLimitReached, InvoiceOverdue],
        refuses like crate::provisioning::REFUSALS
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    ordered: Ordered,
) -> Result<Answered, Error> {
    provisioning::place(context, call, ordered, NAME, Payment::Invoice).await
}
