//! `POST /s3.php`: the published API's single endpoint. The parameter `action` selects the handler; all are linked here.

use crate::ACTIONS;

crate::endpoint!("s3_php", "/s3.php", ACTIONS);
