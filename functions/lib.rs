//! The functions: one folder each, and THE list of them.
//!
//! A wire action is a folder with `mod.rs`, a line below, and a resource in `infra/template.yaml`. What several of them share stands in a
//! file beside the folders. `main.rs` is all of them in one binary.

mod allowance;
mod asking;
mod billing;
mod bucket_lists;
mod buckets;
mod chasing;
mod clients;

mod closing;
pub mod contract;
mod differences;
mod files;
mod invoices;
mod invoicing;
mod locations;
mod metering;
mod plans;
mod provisioning;
pub mod rebuild;
pub mod replay;
mod services;
mod suspension;
mod upkeep;

/// A name on the wire as types are called: `create_bucket` is `CreateBucket`.
fn typed_name(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

pub use differences::Difference;

use wharfage::http::Action;
use wharfage::runtime::Function;

/// Makes a file a wire action of `s3.php`, out of what it takes (`Asked`), answers (`Answered`), and its handler `handle`. What it says of the
/// action stands in the contract.
///
/// ```text
/// crate::action! {
///     /// Makes a further bucket for an account.
///     "create_bucket" of Everybody, about Account
/// }
/// ```
///
/// `speaks as` names another action, under which its errors speak. `with early` names a function that reads what the handler needs while the
/// caller is looked up, and refuses what cannot be told from types. `or later` is for one that may answer with a callback key.
macro_rules! action {
    (
        $(#[doc = $docs:literal])+
        $name:literal $(speaks as $speaks_as:literal)? of $who:ident, about $about:ty $(, with $early:ident)? $(, or $later:ident)?
    ) => {
        /// Its name on the wire. For the handler itself, which `ACTION` is made of and so cannot name it.
        #[allow(dead_code, reason = "not every action writes history")]
        const NAME: &str = $name;
        /// The action on the wire.
        pub const ACTION: wharfage::http::Action = wharfage::http::Action {
            module: "s3",
            name: NAME,
            speaks_as: crate::action!(@or NAME $($speaks_as)?),
            allows_get: |_| false,
            takes: wharfage::http::takes::Takes {
                names: &[wharfage::http::tokens::TOKEN],
                typed: &[
                    || crate::action!(@names <$about as wharfage::http::subject::Subject>::Names),
                    || crate::action!(@names Asked),
                ],
                unused: &[],
            },
            contract: wharfage::http::Contract {
                docs: &[$($docs),+],
                who: wharfage::http::subject::Who::$who,
                parameters: &[
                    <<$about as wharfage::http::subject::Subject>::Names as schemars::JsonSchema>::json_schema,
                    <Asked as schemars::JsonSchema>::json_schema,
                ],
                answer: crate::action!(@answer $($later)?),
            },
            handler: |context, call| Box::pin(async move {
                let asked = wharfage::http::subject::Asked::<Asked, $about>::read(call)?;
                crate::action!(@handle context, call, asked, wharfage::http::subject::Who::$who $(, $early)?)
            }),
        };
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: NAME,
            entry: wharfage::runtime::Entry::Http(|context, request| {
                let route = wharfage::http::Route::Path(&ACTION);
                let answer = wharfage::http::answer(context, request, route);
                Box::pin(wharfage::telemetry::invoked(NAME, answer))
            }),
        };
    };
    (@names $names:ty) => {{
        static NAMES: std::sync::LazyLock<Vec<String>> =
            std::sync::LazyLock::new(wharfage::http::typed::names::<$names>);
        &NAMES
    }};
    (@or $name:ident) => { $name };
    (@or $name:ident $speaks_as:literal) => { $speaks_as };
    (@answer) => {
        wharfage::http::AnswerSchema::Fields(<Answered as schemars::JsonSchema>::json_schema)
    };
    (@answer later) => {
        wharfage::http::AnswerSchema::FieldsOrLater(<Answered as schemars::JsonSchema>::json_schema)
    };
    (@handle $context:ident, $call:ident, $asked:ident, $who:expr) => {{
        let found = $asked.find($context, $call, $who).await?;
        let answered = handle($context, $asked.found($call, found)).await?;
        wharfage::http::envelope::Outcome::<Answered>::from(answered).answer()
    }};
    (@handle $context:ident, $call:ident, $asked:ident, $who:expr, $early:ident) => {{
        let (found, early) = futures::try_join!($asked.find($context, $call, $who), $early($context, &$asked.parameters))?;
        let answered = handle($context, $asked.found($call, found), early).await?;
        wharfage::http::envelope::Outcome::<Answered>::from(answered).answer()
    }};
}
use action;

/// Makes a folder an endpoint of its own: the parameter `action` says which of several is wanted, at one path.
macro_rules! endpoint {
    ($name:literal, $path:literal, $actions:expr) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Http(|context, request| {
                let route = wharfage::http::Route::Parameter($path, $actions);
                let answer = wharfage::http::answer(context, request, route);
                Box::pin(wharfage::telemetry::invoked($name, answer))
            }),
        };
    };
}
use endpoint;

/// Makes a folder a job, with `async fn run(context)`.
macro_rules! job {
    ($name:literal) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Schedule(|context| {
                Box::pin(wharfage::telemetry::invoked($name, run(context)))
            }),
        };
    };
}
use job;

/// Makes a folder a worker, with `async fn handle(context, body)`.
macro_rules! worker {
    ($name:literal) => {
        /// Its Lambda function.
        pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
            name: $name,
            entry: wharfage::runtime::Entry::Queue(|context, body| {
                Box::pin(wharfage::telemetry::invoked($name, handle(context, body)))
            }),
        };
    };
}
use worker;

macro_rules! list {
    (actions: $($action:ident)+; endpoints: $($endpoint:ident)+; groups: $($group:ident { $($member:ident)+ })+) => {
        $(pub mod $action;)+
        $(pub mod $endpoint;)+
        $(
            #[doc = concat!("The ", stringify!($group), ".")]
            pub mod $group {
                $(pub mod $member;)+
            }
        )+

        /// Every wire action of `s3.php`.
        pub const ACTIONS: &[&Action] = &[$(&$action::ACTION),+];

        /// Every function.
        pub const FUNCTIONS: &[Function] = &[
            $($action::FUNCTION,)+
            $($endpoint::FUNCTION,)+
            $($($group::$member::FUNCTION,)+)+
        ];
    };
}

list! {
    actions:
        add_credit
        cancel_payment_account_deletion
        change_plan
        create_account
        create_api_key
        create_bucket
        create_client
        create_order
        create_plan
        delete_account
        delete_bucket
        delete_file
        delete_payment_account
        end_access
        get_available_locations
        get_buckets
        get_buckets_rmq
        get_files
        get_invoice
        get_usage
        get_users
        history
        list_cleanups
        list_invoices
        list_plans
        preview_invoice
        resume_account
        revoke_api_key
        rotate_key
        show_key
        suspend_account
        update_client
        update_plan
        update_traffic_info;
    endpoints:
        auth_php
        eq_callback_php
        s3_php;
    groups:
        jobs {
            chase_invoices
            close_periods
            collect_usage
            create_first_admin
            end_services
            publish_events
            recount_ledger
            resume_orders
            resume_tasks
        }
        workers {
            billing
            cleanup
            storage_tasks
            usage_shards
        }
}
