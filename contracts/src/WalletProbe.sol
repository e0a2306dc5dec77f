// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title Asks a smart wallet that is not deployed yet whether it signed (ERC-6492)
/// @notice It is never deployed either: its creation code runs in an `eth_call`, of which nothing is kept, and what it
/// returns in place of code is the answer in one byte, 1 for yes.
contract WalletProbe {
    /// @param factory Deploys the wallet when it is called with `input`; nobody is called if the wallet has code.
    constructor(address wallet, bytes32 digest, bytes memory signature, address factory, bytes memory input) {
        bool ok = wallet.code.length > 0;
        if (!ok) (ok,) = factory.call(input);
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        bytes32 good = bytes32(IERC1271.isValidSignature.selector);
        // One word is copied back, whatever the wallet answers; where there is no wallet, nothing is.
        assembly ("memory-safe") {
            let done := staticcall(gas(), wallet, add(question, 0x20), mload(question), 0, 0x20)
            ok := and(and(ok, done), and(gt(returndatasize(), 0x1f), eq(mload(0), good)))
            mstore8(0, ok)
            return(0, 1)
        }
    }
}
