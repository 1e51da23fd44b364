from compressit.splits import *
