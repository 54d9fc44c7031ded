//! What holds for any device: its life by the one that does least, hostile drivers for all.

mod hostile;
mod lifecycle;
mod subjects;
