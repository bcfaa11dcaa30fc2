#include "tensor/tape.h"
