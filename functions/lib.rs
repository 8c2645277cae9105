//! The functions: one folder each, and THE list of them.
//!
//! A wire action is a folder with `mod.rs` and a row below, of which its part of `infra/template.yaml` is made. What several of them share
//! stands in a file beside the folders. `main.rs` is all of them in one binary.

mod allowance;
mod billing;
mod bucket_lists;
mod chasing;
mod clients;
mod closing;
pub mod deployment;
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

pub use differences::Difference;

use wharfage::http::Action;
use wharfage::runtime::Function;

use crate::deployment::Trigger::{self, ByHand, Queues, Routes, Schedule};
use crate::deployment::{
    ALLOW_LOGIN_BY_GET, ANY_OTHER, AS_MOST, Deployment, GENERATE_BUCKET_NAMES, Queue,
};

/// Makes a folder a wire action of `s3.php`: `ACTION` for whoever dispatches, `FUNCTION` for its own Lambda function. It takes the
/// parameters named, in groups, and `token`.
macro_rules! s3_action {
    ($name:literal, takes [$($names:expr),* $(,)?]) => {
        s3_action!($name, speaks as $name, takes [$($names),*]);
    };
    ($name:literal, speaks as $speaks_as:literal, takes [$($names:expr),* $(,)?]) => {
        /// Its name on the wire. For the handler itself, which `ACTION` is made of and so cannot name it.
        const NAME: &str = $name;
        /// The action on the wire.
        pub const ACTION: wharfage::http::Action = wharfage::http::Action {
            module: "s3",
            name: NAME,
            speaks_as: $speaks_as,
            allows_get: |_| false,
            takes: wharfage::http::takes::Takes {
                names: &[wharfage::http::tokens::TOKEN, $($names),*],
                unused: &[],
            },
            handler: |context, call| Box::pin(handle(context, call)),
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
}
use s3_action;

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
        actions: $($action:ident($action_is:literal $(, $action_has:ident = $action_value:expr)*))+;
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
                description: $action_is,
                trigger: Trigger::Routes(&[concat!("/s3/", stringify!($action))]),
                $($action_has: $action_value,)*
                ..AS_MOST
            },)+
            $(Deployment {
                name: stringify!($endpoint),
                description: $endpoint_is,
                $($endpoint_has: $endpoint_value,)*
                ..AS_MOST
            },)+
            $($(Deployment {
                name: stringify!($member),
                description: $member_is,
                $($member_has: $member_value,)*
                ..AS_MOST
            },)+)+
        ];
    };
}

// A row is a function's name, what it does, and how else it is deployed: the fields of `Deployment`. An action's route is `/s3/NAME`.
list! {
    actions:
        add_credit("Notes that money came in.")
        cancel_payment_account_deletion("Takes back delete_payment_account, until the cancellation date.")
        change_plan("Puts an account on another plan.")
        create_account("Opens an account; its invoice is left open.", reads = &[GENERATE_BUCKET_NAMES])
        create_api_key("A further API key for a client.")
        create_bucket("Makes a bucket.")
        create_client("A new client.")
        create_order("Opens an account, paid from the client's credit.", reads = &[GENERATE_BUCKET_NAMES])
        create_plan("A new plan.")
        delete_account("Ends an account at once and has its data purged.")
        delete_bucket("Removes a bucket.")
        delete_file("Removes one file.")
        delete_payment_account("Ends an account with the period that is paid for.")
        end_access("Ends a client's sessions and API keys, and what it made.")
        get_available_locations("Where accounts can be opened.")
        get_buckets("An account's buckets, asked of the cluster through a queue.")
        get_buckets_rmq("The same as get_buckets under the name older clients use.")
        get_files("A page of a bucket's files.")
        get_invoice("Explains an invoice.")
        get_usage("Usage by hours, days or periods.")
        get_users("Accounts, with filters and order.")
        history("Who did what, and when.")
        list_cleanups("Lists clean-ups under way.")
        list_invoices("Lists invoices.")
        list_plans("Plans and their prices.")
        preview_invoice("What the running period comes to so far.")
        resume_account("Lets an account's keys work again.")
        revoke_api_key("Ends an API key and its sessions.")
        rotate_key("A second key, and its confirmation.")
        show_key("An account's access key or secret key.")
        suspend_account("Stops an account's keys.")
        update_client("Changes a client.")
        update_plan("The next version of a plan.")
        update_traffic_info("Collects one account's figures now; for admins.");
    endpoints:
        auth_php("Login, info and logout.", trigger = Routes(&["/auth.php"]), reads = &[ALLOW_LOGIN_BY_GET])
        eq_callback_php("Answers of tasks that a caller did not wait for.", trigger = Routes(&["/eq_callback.php"]))
        s3_php(
            "Every action behind one address, for existing clients; and the answer to unknown paths.",
            trigger = Routes(&["/s3.php", ANY_OTHER]),
            reads = &[GENERATE_BUCKET_NAMES],
            condition = Some("HasLegacyEndpoint")
        );
    groups:
        jobs {
            chase_invoices(
                "Queues the open invoices whose next step is due.",
                trigger = Schedule("cron(30 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            close_periods(
                "Queues the accounts whose period is to be closed.",
                trigger = Schedule("cron(20 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            // Five minutes after the hour: by then the clusters have counted it.
            collect_usage(
                "Has the hours collected that have ended, and those that were missed.",
                trigger = Schedule("cron(5 * * * ? *)"),
                timeout_seconds = Some(300)
            )
            // Once: docs/operating.md.
            create_first_admin("Makes the first administrator, where there are no clients yet.", trigger = ByHand)
            end_services(
                "Queues the accounts whose end takes a step.",
                trigger = Schedule("cron(25 * * * ? *)"),
                timeout_seconds = Some(60)
            )
            publish_events("Sends the events in the outbox.", trigger = Schedule("rate(1 minute)"), timeout_seconds = Some(60))
            recount_ledger(
                "Has all balances recounted from their postings.",
                trigger = Schedule("cron(40 2 * * ? *)"),
                timeout_seconds = Some(60)
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
        }
        workers {
            billing(
                "Closes periods, chases invoices, ends services, tells clusters what records say, recounts balances.",
                trigger = Queues(&[Queue { event: "Queue", name: "Billing", batch: 5 }]),
                timeout_seconds = Some(60)
            )
            cleanup(
                "Empties buckets and accounts, a step per message.",
                trigger = Queues(&[Queue { event: "Queue", name: "Cleanup", batch: 1 }]),
                timeout_seconds = Some(60)
            )
            storage_tasks(
                "Puts questions to clusters that a caller waits for.",
                trigger = Queues(&[
                    Queue { event: "Queue", name: "StorageTasks", batch: 1 },
                    Queue { event: "SlowQueue", name: "SlowTasks", batch: 1 },
                ]),
                timeout_seconds = Some(30)
            )
            usage_shards(
                "Collects an hour of usage of a shard of accounts.",
                trigger = Queues(&[Queue { event: "Queue", name: "UsageShards", batch: 1 }]),
                timeout_seconds = Some(120),
                memory_mb = Some(512)
            )
        }
}
