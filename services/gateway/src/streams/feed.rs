//! One follower of one job: what it is sent, as it happens.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use tidegate_store::{JobRow, Version};
use tokio::time::Instant;

use super::cursor::Cursor;
use super::event::StreamEvent;
use super::limit::Slot;
use crate::state::AppState;
use crate::status::body;
use crate::watch::Watch;

/// The pause before a row that could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Holds a row only while there is something of it to be sent.
pub struct Feed {
    state: Data<AppState>,
    watch: Watch,
    cursor: Cursor,
    row: Option<Arc<JobRow>>,
    version: Version,
    again: Option<Instant>,
    _slot: Slot,
}

impl Feed {
    /// Begins with the row as it was read after the watch began.
    pub fn new(
        state: Data<AppState>,
        watch: Watch,
        cursor: Cursor,
        row: JobRow,
        slot: Slot,
    ) -> Self {
        let version = row.version();
        Self {
            state,
            watch,
            cursor,
            row: Some(Arc::new(row)),
            version,
            again: None,
            _slot: slot,
        }
    }

    /// What all handlers share.
    pub fn state(&self) -> &Data<AppState> {
        &self.state
    }

    /// The next event; `None` after the last, and when the job is not kept any more. Cancel safe.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some(row) = &self.row {
                if let Some(step) = self.cursor.next(row) {
                    let status = || body(&self.state, row, false);
                    return Some(StreamEvent::new(row, step, status));
                }
                self.row = None;
            }
            if self.cursor.is_over() {
                return None;
            }
            if let Some(again) = self.again {
                tokio::time::sleep_until(again).await;
            }
            match self.watch.later_than(self.version).await {
                Ok(Some(row)) => {
                    self.version = row.version();
                    self.row = Some(row);
                    self.again = None;
                }
                Ok(None) => return None,
                Err(_) => self.again = Some(Instant::now() + AGAIN),
            }
        }
    }
}
