//! Where input comes from. Today: files. A further kind (a tool that is run, a URL that is asked) is a module here.

pub mod file;
