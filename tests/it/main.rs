//! One binary of tests: a file per action, per job and per property. Every file beside this one is a part of it.

automod::dir!("it");
