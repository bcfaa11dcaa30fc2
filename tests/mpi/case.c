#include "tests/mpi/case.h"
int main(void) { return 0; }
