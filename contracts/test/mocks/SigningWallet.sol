// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice A smart wallet that answers for its owner's signatures (EIP-1271), well or in the way told. TEST ONLY.
/// @dev As it should not: it takes the digest as it comes, so that two wallets of one owner take the same signature.
contract SigningWallet is IERC1271 {
    enum Manner {
        Answers,
        AnswersAnything,
        Refuses,
        Reverts,
        RevertsMegabyte,
        ReturnsMegabyte,
        ReturnsShort,
        ReturnsDirty,
        BurnsGas
    }

    address public immutable OWNER;
    Manner public manner;
    uint256 private _gas;

    constructor(address owner) {
        OWNER = owner;
    }

    receive() external payable {}

    function setManner(Manner manner_) external {
        manner = manner_;
    }

    /// @notice From now on burns so much gas before it answers.
    function setGas(uint256 gas) external {
        _gas = gas;
    }

    /// @notice Lets the owner act as the wallet.
    function run(address target, uint256 value, bytes calldata input) external {
        (bool success, bytes memory answer) = target.call{value: value}(input);
        if (!success) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view override returns (bytes4) {
        uint256 began = gasleft();
        bytes32 answer = bytes32(IERC1271.isValidSignature.selector);
        uint256 size = 32;
        if (manner == Manner.Reverts) revert("no");
        if (manner == Manner.BurnsGas) while (true) {}
        if (manner == Manner.Refuses) answer = 0;
        if (manner == Manner.ReturnsMegabyte) (size, answer) = (100_000, bytes32(uint256(1)));
        if (manner == Manner.ReturnsShort) size = 4;
        if (manner == Manner.ReturnsDirty) answer |= bytes32(uint256(1));
        if (manner == Manner.Answers) {
            (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
            if (signer != OWNER) return 0;
        }
        uint256 burn = _gas;
        while (began - gasleft() < burn) {}
        bool isRevert = manner == Manner.RevertsMegabyte;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, answer)
            if isRevert { revert(free, 100000) }
            return(free, size)
        }
    }
}
