//! Requests of one connection that are under way at once, and answered in the order in which they came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Requests of one connection under way at once; further ones wait on the socket.
pub(super) const MAX_UNDER_WAY: usize = 256;

/// What is under way. Each is begun, in order, when the pipeline is next polled, whatever is before it;
/// only the answers wait for each other.
pub(super) struct Pipeline<T> {
    stages: VecDeque<Stage<T>>,
    /// How many of them have been polled.
    begun: usize,
}

enum Stage<T> {
    UnderWay(Pin<Box<dyn Future<Output = T> + Send>>),
    Done(T),
}

impl<T> Stage<T> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Stage::UnderWay(work) = self
            && let Poll::Ready(answer) = work.as_mut().poll(cx)
        {
            *self = Stage::Done(answer);
        }
    }
}

impl<T> Pipeline<T> {
    pub(super) fn new() -> Pipeline<T> {
        Pipeline { stages: VecDeque::new(), begun: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.stages.len() < MAX_UNDER_WAY
    }

    /// Takes up `work`; the caller has seen that there is room.
    pub(super) fn push(&mut self, work: impl Future<Output = T> + Send + 'static) {
        assert!(self.has_room(), "at most {MAX_UNDER_WAY} at once");
        self.stages.push_back(Stage::UnderWay(Box::pin(work)));
    }

    /// Waits until the oldest is done, and hands over its answer and those of all that follow it and are
    /// done. May be dropped at any await.
    pub(super) async fn answers(&mut self, mut take: impl FnMut(T)) {
        std::future::poll_fn(|cx| self.poll_answers(cx, &mut take)).await;
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>, take: &mut impl FnMut(T)) -> Poll<()> {
        self.stages.range_mut(self.begun..).for_each(|stage| stage.poll(cx));
        self.begun = self.stages.len();
        let mut taken = false;
        // A younger one's wake-up is not lost: it is polled again once it is the oldest.
        while let Some(mut oldest) = self.stages.pop_front() {
            oldest.poll(cx);
            match oldest {
                Stage::Done(answer) => take(answer),
                waits @ Stage::UnderWay(_) => {
                    self.stages.push_front(waits);
                    break;
                }
            }
            taken = true;
        }
        self.begun = self.stages.len();
        if taken { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn all_are_begun_at_once_and_answered_in_order() {
        let mut pipeline = Pipeline::new();
        let (first, waits) = oneshot::channel::<u32>();
        let (begun, mut began) = oneshot::channel();
        pipeline.push(async { waits.await.unwrap() });
        pipeline.push(async {
            begun.send(()).unwrap();
            2
        });
        let mut answers = Vec::new();
        tokio::select! {
            biased;
            () = pipeline.answers(|answer| answers.push(answer)) => panic!("the first is not done"),
            () = std::future::ready(()) => {}
        }
        assert!(began.try_recv().is_ok(), "the second was begun");
        first.send(1).unwrap();
        pipeline.answers(|answer| answers.push(answer)).await;
        assert_eq!(answers, [1, 2]);
        assert!(pipeline.is_empty());
    }
}
