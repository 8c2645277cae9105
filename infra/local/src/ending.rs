//! The tasks of a running stack, and how they end.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::front::Front;

/// The tasks that serve requests, poll queues, and run schedules as time passes.
pub(crate) struct Tasks {
    front: Front,
    serving: JoinHandle<()>,
    serve_no_more: CancellationToken,
    background: Vec<JoinHandle<()>>,
    poll_no_more: CancellationToken,
}

impl Tasks {
    pub(crate) fn start(
        front: Front,
        listeners: Vec<TcpListener>,
        engine: &Arc<Engine>,
        in_background: bool,
    ) -> Tasks {
        let (serve_no_more, poll_no_more) = (CancellationToken::new(), CancellationToken::new());
        let serving = front.clone().serve(listeners, serve_no_more.clone());
        let mut background = Vec::new();
        if in_background {
            let polling = Arc::clone(&engine.queues).poll(poll_no_more.clone());
            background.push(tokio::spawn(polling));
            // A clock that stands still makes nothing due.
            if engine.clock.is_running() {
                background.push(tokio::spawn(Arc::clone(engine).keep_time()));
            }
        }
        Tasks {
            front,
            serving: tokio::spawn(serving),
            serve_no_more,
            background,
            poll_no_more,
        }
    }

    pub(crate) fn requests_under_way(&self) -> usize {
        self.front.under_way()
    }

    /// Ends requests first: some wait for what a queue's function does.
    pub(crate) async fn finish(&mut self, engine: &Engine) {
        self.serve_no_more.cancel();
        // They end by themselves; a panic in one was told when it happened.
        let _ = (&mut self.serving).await;
        self.poll_no_more.cancel();
        for task in self.background.drain(..) {
            let _ = task.await;
        }
        engine.idle().await;
    }

    pub(crate) fn abort(&self) {
        self.serving.abort();
        for task in &self.background {
            task.abort();
        }
    }
}
