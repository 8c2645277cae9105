//! `POST /s3.php`: the reference's single endpoint. The parameter `action` picks the handler; all are linked here.

use crate::ACTIONS;

crate::endpoint!("s3_php", "/s3.php", ACTIONS);
