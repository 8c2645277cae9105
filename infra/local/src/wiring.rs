//! Joins the template's functions to the code they name.

use std::time::Duration;

use wharfage::runtime::{Entry, Function, HttpHandler, QueueHandler, ScheduleHandler};

use crate::error::Error;
use crate::gateway::Routes;
use crate::schedule::Schedule;
use crate::template::{self, QueueTrigger, Trigger};

/// What starts what.
pub(crate) struct Wiring {
    /// The HTTP API's routes.
    pub routes: Routes,
    /// Queues that start functions.
    pub sources: Vec<Source>,
    /// Functions that schedules start.
    pub jobs: Vec<Job>,
}

/// A function behind a route.
#[derive(Clone)]
pub(crate) struct Target {
    /// Its name.
    pub function: &'static str,
    /// Its code.
    pub handler: HttpHandler,
    /// How long it may take.
    pub timeout: Duration,
    /// How long the HTTP API waits for it.
    pub route_timeout: Duration,
    /// `ANY /s3/create_account` or `$default`.
    pub route_key: String,
}

/// A function behind a queue.
pub(crate) struct Source {
    /// Its name.
    pub function: &'static str,
    /// Its code.
    pub handler: QueueHandler,
    /// How long it may take.
    pub timeout: Duration,
    /// The queue, and how it is polled.
    pub trigger: QueueTrigger,
}

/// A function behind schedules.
pub(crate) struct Job {
    /// Its name, also for `/_local/run`.
    pub function: &'static str,
    /// Its code.
    pub handler: ScheduleHandler,
    /// How long it may take.
    pub timeout: Duration,
    /// When it is due. None when its schedules are switched off, or it is started by hand.
    pub schedules: Vec<Schedule>,
}

impl Wiring {
    /// Finds every function's code among `known`.
    ///
    /// # Errors
    /// Names the function whose code is missing, or does not take what starts it.
    pub(crate) fn new(
        functions: Vec<template::Function>,
        known: &'static [Function],
    ) -> Result<Wiring, Error> {
        let mut wiring = Wiring {
            routes: Routes::default(),
            sources: Vec::new(),
            jobs: Vec::new(),
        };
        for declared in functions {
            let path = format!("Resources.{}", declared.id);
            let function = known
                .iter()
                .find(|function| function.name == declared.handler)
                .ok_or_else(|| {
                    Error::template(
                        &format!("{path}.Properties.Handler"),
                        format!("there is no function {}", declared.handler),
                    )
                })?;
            match function.entry {
                // Started by hand.
                Entry::Schedule(handler) if declared.triggers.is_empty() => wiring.jobs.push(Job {
                    function: function.name,
                    handler,
                    timeout: declared.timeout,
                    schedules: Vec::new(),
                }),
                _ if declared.triggers.is_empty() => {
                    return Err(Error::template(
                        &format!("{path}.Properties.Events"),
                        "nothing starts this function",
                    ));
                }
                _ => wiring.join(declared, function, &path)?,
            }
        }
        Ok(wiring)
    }

    fn join(
        &mut self,
        declared: template::Function,
        function: &'static Function,
        path: &str,
    ) -> Result<(), Error> {
        let timeout = declared.timeout;
        let function_name = function.name;
        for trigger in declared.triggers {
            match (trigger, function.entry) {
                (Trigger::Route(route), Entry::Http(handler)) => {
                    let method = route
                        .method
                        .as_ref()
                        .map_or("ANY", |method| method.as_str());
                    let route_key = match &route.path {
                        Some(path) => format!("{method} {path}"),
                        None => "$default".into(),
                    };
                    let target = Target {
                        function: function_name,
                        handler,
                        timeout,
                        route_timeout: route.timeout,
                        route_key,
                    };
                    self.routes
                        .add(route.method, route.path, target)
                        .map_err(|problem| Error::template(path, problem))?;
                }
                (Trigger::Queue(trigger), Entry::Queue(handler)) => self.sources.push(Source {
                    function: function_name,
                    handler,
                    timeout,
                    trigger,
                }),
                (Trigger::Schedule(schedule), Entry::Schedule(handler)) => {
                    match self
                        .jobs
                        .iter_mut()
                        .find(|job| job.function == function_name)
                    {
                        Some(job) => job.schedules.extend(schedule),
                        None => self.jobs.push(Job {
                            function: function_name,
                            handler,
                            timeout,
                            schedules: schedule.into_iter().collect(),
                        }),
                    }
                }
                (trigger, entry) => {
                    return Err(Error::template(
                        &format!("{path}.Properties.Events"),
                        format!(
                            "{function_name} takes {}, not {}",
                            taken_by(entry),
                            given_by(&trigger)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn taken_by(entry: Entry) -> &'static str {
    match entry {
        Entry::Http(_) => "HTTP requests",
        Entry::Queue(_) => "queue messages",
        Entry::Schedule(_) => "schedules",
    }
}

fn given_by(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Route(_) => "HTTP requests",
        Trigger::Queue(_) => "queue messages",
        Trigger::Schedule(_) => "schedules",
    }
}
