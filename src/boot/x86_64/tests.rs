//! Each format as it should be, and each of its fields as it should not.

mod bad_files;
mod bad_images;
mod good_images;
mod mutations;
