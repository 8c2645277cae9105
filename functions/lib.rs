//! The functions: one folder each, and THE list of them.
//!
//! An action is a folder with `mod.rs` and a row below, from which its part of `infra/template.yaml` is generated. Code that several share
//! is in files beside the folders. `main.rs` is all of them in one binary.

mod allowance;
mod asking;
mod billing;
mod bucket_lists;
mod buckets;
mod chasing;
mod clients;
mod closing;
pub mod contract;
mod days;
pub mod deployment;
mod differences;
mod ending;
mod files;
mod invoices;
mod invoicing;
mod locations;
mod metering;
mod obstacles;
mod payments;
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

use crate::deployment::Trigger::{ByHand, Queues, Routes, Schedule};
use crate::deployment::{
    ALLOW_LOGIN_BY_GET, ANY_OTHER, AS_MOST, Deployment, GENERATE_BUCKET_NAMES, Queue,
};

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
/// caller is looked up, and refuses what cannot be told from types. `or later` is for one that may answer with a callback key. `refuses` names the
/// reasons of its refusals, beside those that go for every call of its kind; `refuses like` names several that go together.
macro_rules! action {
    (
        $(#[doc = $docs:literal])+
        $name:literal $(speaks as $speaks_as:literal)? of $who:ident, about $about:ty $(, with $early:ident)? $(, or $later:ident)?
        $(, refuses [$($reason:ident),+ $(,)?])? $(, refuses like $group:path)?
    ) => {
        /// Its name on the wire. For the handler itself, which `ACTION` is made of and so cannot name it.
        #[allow(dead_code, reason = "not every action writes history")]
        const NAME: &str = $name;
        /// The action on the wire.
        pub const ACTION: wharfage::http::Action = wharfage::http::Action {
            module: "s3",
            name: NAME,
            speaks_as: crate::action!(@or NAME $($speaks_as)?),
            get: wharfage::http::Get::Never,
            takes: wharfage::http::takes::Takes {
                token: true,
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
                refuses: &[
                    <$about as wharfage::http::subject::Subject>::REFUSES,
                    &[$($(wharfage::error::Reason::$reason),+)?],
                    $($group,)?
                ],
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
    (
        actions: $($action:ident $(($($action_has:ident = $action_value:expr),+))?)+;
        endpoints: $($endpoint:ident($endpoint_is:literal $(, $endpoint_has:ident = $endpoint_value:expr)*))+;
        groups: $($group:ident {
            $($member:ident($member_is:literal $(, $member_has:ident = $member_value:expr)*))+
        })+
    ) => {
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

        /// How each of them is deployed.
        pub const DEPLOYMENTS: &[Deployment] = &[
            $(Deployment {
                name: stringify!($action),
                docs: $action::ACTION.contract.docs,
                trigger: Routes(&[concat!("/s3/", stringify!($action))]),
                $($($action_has: $action_value,)+)?
                ..AS_MOST
            },)+
            $(Deployment {
                name: stringify!($endpoint),
                docs: &[$endpoint_is],
                $($endpoint_has: $endpoint_value,)*
                ..AS_MOST
            },)+
            $($(Deployment {
                name: stringify!($member),
                docs: &[$member_is],
                $($member_has: $member_value,)*
                ..AS_MOST
            },)+)+
        ];
    };
}

// A row is a function's name, what it does, and how it is deployed: the fields of `Deployment`. An action says itself what it does, and its
// route is `/s3/NAME`.
list! {
    actions:
        add_credit
        cancel_payment_account_deletion
        change_plan
        create_account(reads = &[GENERATE_BUCKET_NAMES])
        create_api_key
        create_bucket
        create_client
        create_order(reads = &[GENERATE_BUCKET_NAMES])
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
        auth_php("Login, info and logout.", trigger = Routes(&["/auth.php"]), reads = &[ALLOW_LOGIN_BY_GET])
        eq_callback_php("Answers of tasks that a caller did not wait for.", trigger = Routes(&["/eq_callback.php"]))
        docs("The contract, for programs and for people.", trigger = Routes(&["/openapi.json", "/docs"]))
        s3_php(
            "Every action behind one address, for existing clients; and the answer to unknown paths.",
            trigger = Routes(&["/s3.php", ANY_OTHER]),
            reads = &[GENERATE_BUCKET_NAMES],
            condition = Some("HasLegacyEndpoint")
        );
    groups:
        jobs {
            // Of several that fall due at the same time, the local runner runs the one that stands first here.

            // Five minutes after the hour: by then the clusters have counted it.
            collect_usage(
                "Has the hours collected that have ended, and those that were missed.",
                trigger = Schedule("cron(5 * * * ? *)"),
                timeout_seconds = Some(300)
            )
            resume_orders(
                "Finishes or undoes orders that were left in the middle.",
                trigger = Schedule("rate(1 minute)"),
                timeout_seconds = Some(60)
            )
            resume_tasks(
                "Queues open tasks again whose message was lost, and accounts whose cluster is still to be told.",
                trigger = Schedule("rate(5 minutes)"),
                timeout_seconds = Some(60)
            )
            close_periods(
                "Queues the accounts whose period is to be closed.",
                trigger = Schedule("cron(20 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            end_services(
                "Queues the accounts whose end takes a step.",
                trigger = Schedule("cron(25 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            chase_invoices(
                "Queues the open invoices whose next step is due.",
                trigger = Schedule("cron(30 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            recount_ledger(
                "Has all balances recounted from their postings.",
                trigger = Schedule("cron(40 2 * * ? *)"),
                timeout_seconds = Some(60)
            )
            publish_events("Sends the events in the outbox.", trigger = Schedule("rate(1 minute)"), timeout_seconds = Some(60))
            // Once: docs/operating.md.
            create_first_admin("Makes the first administrator, where there are no clients yet.", trigger = ByHand)
        }
        workers {
            storage_tasks(
                "Puts questions to clusters that a caller waits for.",
                trigger = Queues(&[
                    Queue { event: "Queue", name: "StorageTasks", batch: 1 },
                    Queue { event: "SlowQueue", name: "SlowTasks", batch: 1 },
                ]),
                timeout_seconds = Some(30)
            )
            cleanup(
                "Empties buckets and accounts, a step per message.",
                trigger = Queues(&[Queue { event: "Queue", name: "Cleanup", batch: 1 }]),
                timeout_seconds = Some(60)
            )
            usage_shards(
                "Collects an hour of usage of a shard of accounts.",
                trigger = Queues(&[Queue { event: "Queue", name: "UsageShards", batch: 1 }]),
                timeout_seconds = Some(120),
                memory_mb = Some(512)
            )
            billing(
                "Closes periods, chases invoices, ends services, tells clusters what records say, recounts balances.",
                trigger = Queues(&[Queue { event: "Queue", name: "Billing", batch: 5 }]),
                timeout_seconds = Some(60)
            )
        }
}
