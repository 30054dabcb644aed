//! A stream of answers to one caller: a bounded queue, and beside it a place that is kept free for how the stream ends. The
//! reason comes after whatever still waits for the caller, and without it a stream that was cut off looks like one that is
//! complete.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What a caller gets.
pub(crate) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Says how a stream ends.
pub(crate) struct LastWord<T>(Option<mpsc::OwnedPermit<Result<T, Status>>>);

impl<T> LastWord<T> {
    /// Never waits, however many answers the caller has not read.
    pub(crate) fn say(self, status: Status) {
        if let Some(place) = self.0 {
            let _sender = place.send(Err(status));
        }
    }
}

/// A stream with room for so many answers that the caller has not read yet.
pub(crate) fn answers<T>(room: usize) -> (mpsc::Sender<Result<T, Status>>, LastWord<T>, Answers<T>) {
    let (answers, stream) = mpsc::channel(room + 1);
    // Of a new queue there is a place.
    let last_word = LastWord(answers.clone().try_reserve_owned().ok());
    (answers, last_word, ReceiverStream::new(stream))
}
