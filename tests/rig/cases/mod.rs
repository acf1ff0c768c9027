//! One file a topic.

mod comes_back_lock;
mod order_circles;
mod order_closure;
mod order_units;
mod rehearse_containers;
mod rehearse_mounts;
mod rehearse_order;
mod rehearse_ways;
mod shutdown;
mod smoke;
mod stop_again;
mod stop_closure;
mod stop_odd;
mod stop_order;
mod stop_processes;
mod trigger_silence;
