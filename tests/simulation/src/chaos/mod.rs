//! Random lives. From the seed alone: settings that validation accepts, clocks that drift, delays, plugins slow and
//! quick; a phase in which anything may happen, at any moment of any procedure; then everything is mended, and the
//! pair has to heal.
//!
//! ```text
//!   seed ─► Plan::draw ─► scenes, one after the other ─► who is left must act ─► mend ─► heal, come to rest
//!                         │ I1 to I6 at each step        │ I9                         │ I8, I9, I10
//! ```

mod act;
mod deed;
mod plan;
mod run;
mod settings;
mod shrink;

pub use deed::{Beginning, Death, Deed, Moment};
pub use plan::{Pace, Plan, Scene, Weather};
pub use run::{Ended, live, outcome, seed_fails};
pub use settings::settings as draw_settings;
pub use shrink::shrink;
