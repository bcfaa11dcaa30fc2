// What numerical libraries read from the environment when they are loaded has to be there before
// the program starts.
#pragma once

// First thing in main. Where OpenBLAS has taken kernels that do not fit (gemm_choose_kernels) or
// threads would spin for long (threads_limit_spinning), sets the variables and starts the program
// again; what the user has set stays. Returns otherwise, and where that cannot be done: slower, but
// right.
void libraries_prepare(char **argv);
