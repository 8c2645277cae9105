//! `update_traffic_info`.
