//! Core without std: a program that has its own panic handler and its own allocator, and runs a node.
//!
//! That a crate says `#![no_std]` proves little: any dependency may link std all the same. Here that is
//! a compile error, since std brings a second panic handler ("found duplicate lang item `panic_impl`").
//! `run.sh` beside this builds and runs it; the exit code says whether the node did what it should.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a global allocator and the C entry point cannot be had otherwise")]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_void};
use core::panic::PanicInfo;

use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time, WallTime};
use quorate_core::node::{Command, Config, Event, Message, Node, Record};
use quorate_core::store::Change;

#[link(name = "c")]
unsafe extern "C" {
    fn aligned_alloc(align: usize, bytes: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn abort() -> !;
}

struct Malloc;

#[global_allocator]
static MALLOC: Malloc = Malloc;

// SAFETY: `aligned_alloc` gives memory of the alignment and size asked for, or null, and `free` takes it
// back; the size is rounded up, as it must be a multiple of the alignment.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let layout = layout.pad_to_align();
        // SAFETY: a layout's alignment is a power of two; nothing else is asked of the caller.
        unsafe { aligned_alloc(layout.align(), layout.size()).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: `memory` came from `alloc` above.
        unsafe { free(memory.cast()) }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: asks nothing of its caller.
    unsafe { abort() }
}

/// What unwinding would look for; there is none, but the precompiled `alloc` names it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

/// Counts what the node asks for.
#[derive(Default)]
struct Sink {
    records: Vec<Record>,
    written: usize,
}

impl Effects<Node> for Sink {
    fn persist(&mut self, record: Record) {
        self.records.push(record);
    }
    fn send(&mut self, _: NodeId, _: Message) {}
    fn send_now(&mut self, _: NodeId, _: Message) {}
    fn emit(&mut self, event: Event) {
        self.written += usize::from(matches!(event, Event::Written { result: Ok(_), .. }));
    }
    fn emit_now(&mut self, event: Event) {
        self.emit(event);
    }
}

/// Founds a store, writes to it, and restores another node from the log.
fn run() -> bool {
    let identity = Identity::from_seed([1; 32]);
    let config = Config { identity, verify, address: None, suspect: false };
    let mut node = Node::new(config.clone());
    let cx = Cx { me: node.id(), now: Time::ZERO, wall: WallTime(1), entropy: 7 };
    let mut sink = Sink::default();
    let change = Change::Put { key: b"key".as_slice().into(), value: b"value".as_slice().into() };
    let write = Command::Write { ticket: 1, changes: vec![change] };
    for input in [Input::Start, Input::Command(Command::Found), Input::Command(write)] {
        node.handle(cx, input, &mut sink);
        node.check();
    }
    let mut restored = Node::new(config);
    sink.records.iter().cloned().for_each(|record| restored.restore(record));
    let digest = |node: &Node| node.store().map(|store| store.digest());
    sink.written == 1 && digest(&node).is_some() && digest(&node) == digest(&restored)
}

#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const u8) -> c_int {
    c_int::from(!run())
}
