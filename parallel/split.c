#include "parallel/parallel.h"
