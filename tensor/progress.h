// A moment for what goes on in the background, such as messages between ranks, which move only
// inside calls: the tape calls between nodes, products and kernels between pieces of work.
#pragma once

// fn NULL: nothing is going on. Set by the floor above, from the main thread, outside of parallel
// regions.
void progress_set(void (*fn)(void));
// Runs it on the main thread; on any other one, does nothing.
void progress(void);
